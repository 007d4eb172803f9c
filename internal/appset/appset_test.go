package appset_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/appset"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/memtree"
)

// world is what the generators of a test see: the directory tree of the case
// is every repository, and world.yaml has the rest.
type world struct {
	tree         core.Tree
	Clusters     []appset.Cluster     `json:"clusters"`
	Repos        []appset.Repository  `json:"repositories"`
	PullRequests []appset.PullRequest `json:"pullRequests"`
	// Away is the error of whatever is asked.
	Away string `json:"away"`
}

type inputs struct{ w *world }

func (i inputs) away() error {
	if i.w.Away != "" {
		return errors.New(i.w.Away)
	}
	return nil
}

func (i inputs) Snapshot(context.Context, string, string) (core.Snapshot, error) {
	return core.Snapshot{Tree: i.w.tree}, i.away()
}
func (i inputs) Clusters(context.Context) ([]appset.Cluster, error) { return i.w.Clusters, i.away() }
func (i inputs) Repositories(context.Context, *argo.SCMProviderGenerator) ([]appset.Repository, error) {
	return i.w.Repos, i.away()
}
func (i inputs) PullRequests(context.Context, *argo.PullRequestGenerator) ([]appset.PullRequest, error) {
	return i.w.PullRequests, i.away()
}

// TestGenerate makes the Applications of each case in testdata: set.yaml, what
// is around it (tree, world.yaml), and want.yaml or error.txt, whose lines
// are all in the error.
func TestGenerate(t *testing.T) {
	cases, err := filepath.Glob("testdata/*/set.yaml")
	if err != nil || len(cases) == 0 {
		t.Fatal("no cases", err)
	}
	for _, file := range cases {
		dir := filepath.Dir(file)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			set, w := readCase(t, dir)
			apps, err := generate(t, set, w)
			if says, readErr := os.ReadFile(filepath.Join(dir, "error.txt")); readErr == nil {
				wantError(t, err, string(says))
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			compare(t, apps, filepath.Join(dir, "want.yaml"))
		})
	}
}

func readCase(t *testing.T, dir string) (*argo.ApplicationSet, *world) {
	t.Helper()
	set, w := &argo.ApplicationSet{}, &world{}
	read(t, filepath.Join(dir, "set.yaml"), set)
	if set.Namespace == "" {
		set.Namespace = "argocd"
	}
	if _, err := os.Stat(filepath.Join(dir, "world.yaml")); err == nil {
		read(t, filepath.Join(dir, "world.yaml"), w)
	}
	tree, err := memtree.Load(filepath.Join(dir, "tree"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if err != nil {
		tree = memtree.New(map[string]string{"README": "nothing"})
	}
	w.tree = tree
	return set, w
}

func read(t *testing.T, file string, into any) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(data, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// generate checks and makes, as the controller does.
func generate(t *testing.T, set *argo.ApplicationSet, w *world) ([]*unstructured.Unstructured, error) {
	t.Helper()
	if problems := appset.Check(set); len(problems) > 0 {
		return nil, problems[0]
	}
	return appset.Generate(t.Context(), set, inputs{w}, appset.Direct{}, appset.Limits{Applications: 100})
}

func wantError(t *testing.T, err error, says string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range strings.Split(strings.TrimSpace(says), "\n") {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
}

// compare holds the Applications against the documents of the file, in their
// order. FAIRWAY_UPDATE writes the file.
func compare(t *testing.T, apps []*unstructured.Unstructured, file string) {
	t.Helper()
	var docs []string
	for _, app := range apps {
		data, err := yaml.Marshal(app.Object)
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, string(data))
	}
	if os.Getenv("FAIRWAY_UPDATE") != "" {
		if err := os.WriteFile(file, []byte(strings.Join(docs, "---\n")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var want []map[string]any
	for _, doc := range strings.Split(string(data), "---\n") {
		text, err := yaml.YAMLToJSON([]byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		var object map[string]any
		if err := utiljson.Unmarshal(text, &object); err != nil {
			t.Fatal(err)
		}
		if object != nil {
			want = append(want, object)
		}
	}
	if len(want) != len(apps) {
		t.Fatalf("%d Applications, want %d:\n%s", len(apps), len(want), strings.Join(docs, "---\n"))
	}
	for i, app := range apps {
		if !reflect.DeepEqual(app.Object, want[i]) {
			t.Errorf("Application %d is\n%s\nwant\n%v", i, docs[i], want[i])
		}
	}
}

// TestGenerateIsBounded has a set that makes more than it may.
func TestGenerateIsBounded(t *testing.T) {
	var elements strings.Builder
	for i := range 101 {
		fmt.Fprintf(&elements, "- {n: \"%d\"}\n", i)
	}
	set := &argo.ApplicationSet{}
	set.Namespace = "argocd"
	set.Spec.Generators = []argo.ApplicationSetGenerator{{List: &argo.ListGenerator{ElementsYaml: elements.String()}}}
	set.Spec.Template.Name = "app-{{n}}"
	_, err := generate(t, set, &world{})
	var large *core.TooLargeError
	if !errors.As(err, &large) || large.Limit != 100 {
		t.Errorf("error %v, want that there are too many", err)
	}
	if !appset.Permanent(err) {
		t.Error("to try again is of use?")
	}
}
