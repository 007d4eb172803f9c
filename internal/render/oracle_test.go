package render_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairway-cd/fairway/internal/core/memtree"
	"github.com/fairway-cd/fairway/internal/render"
)

// kubeVersion is given to both sides: each has another default.
const kubeVersion = "v1.36.3"

// oracle is the path of a program that was built apart from us.
func oracle(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("FAIRWAY_ORACLE")
	if dir == "" {
		dir = filepath.Join("..", "..", "bin", "oracle")
	}
	program, err := filepath.Abs(filepath.Join(dir, name))
	if err == nil {
		_, err = os.Stat(program)
	}
	if err != nil {
		t.Fatalf("the %s to compare with is not there (%v): run hack/oracle.sh, or set FAIRWAY_ORACLE to its directory", name, err)
	}
	return program
}

// corpus is the directory of the shared files that users have.
func corpus(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("FAIRWAY_CORPUS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "corpus")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("the corpus is not there: %v", err)
	}
	return dir
}

func run(t testing.TB, program string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH"), "TZ=UTC"}
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if err != nil {
		t.Logf("%s %s: %v: %s", filepath.Base(program), strings.Join(args, " "), err, errOut.String())
	}
	return out.String(), err
}

// decodeAll decodes what a tool printed by rendering it as a plain directory:
// the decoder of manifests is tested on its own.
func decodeAll(t testing.TB, text string) []string {
	t.Helper()
	result, err := renderFiles(t, map[string]string{"all.yaml": text}, render.Request{Tool: render.Plain})
	if err != nil {
		t.Fatal(err)
	}
	return encodeAll(t, result)
}

func encodeAll(t testing.TB, result *render.Result) []string {
	t.Helper()
	var out []string
	for _, o := range result.Objects {
		data, err := json.Marshal(o.Object)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(data))
	}
	return out
}

func compare(t testing.TB, got, want []string) {
	t.Helper()
	for i := 0; i < len(got) && i < len(want); i++ {
		if got[i] != want[i] {
			t.Fatalf("object %d:\n got %s\nwant %s", i, got[i], want[i])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d objects, want %d", len(got), len(want))
	}
	if len(got) == 0 {
		t.Fatal("nothing was compared")
	}
}

// kustomizations are the directories below root that hold one.
func kustomizations(t testing.TB, root string) []string {
	t.Helper()
	var dirs []string
	err := filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(strings.ToLower(d.Name()), "kustomization") {
			dirs = append(dirs, filepath.Dir(p))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

func compareKustomize(t *testing.T, root string, dirs []string) {
	kustomize := oracle(t, "kustomize")
	tree, err := memtree.Load(root)
	if err != nil {
		t.Fatal(err)
	}
	engine := newPool(t, render.PoolOptions{Workers: 1})
	for _, dir := range dirs {
		rel, err := filepath.Rel(root, dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(rel, func(t *testing.T) {
			if head, _ := os.ReadFile(filepath.Join(dir, "kustomization.yaml")); bytes.Contains(head, []byte("kind: Component")) {
				t.Skip("a component is built by what includes it")
			}
			want, wantErr := run(t, kustomize, "build", "--load-restrictor", "LoadRestrictionsNone", dir)
			result, err := engine.Render(context.Background(), render.Request{Tree: tree, Path: rel})
			var broken *render.Error
			if wantErr != nil && errors.As(err, &broken) {
				t.Skipf("kustomize refuses it, and so do we: %v", err)
			}
			if wantErr != nil || err != nil {
				t.Fatalf("kustomize: %v, ours: %v", wantErr, err)
			}
			compare(t, encodeAll(t, result), decodeAll(t, want))
		})
	}
}

func TestKustomizeEqualsOracleOnCorpus(t *testing.T) {
	for _, name := range []string{"kustomize", "public"} {
		root := filepath.Join(corpus(t), name)
		dirs := kustomizations(t, root)
		if len(dirs) < 5 {
			t.Fatalf("only %d overlays in %s", len(dirs), root)
		}
		t.Run(name, func(t *testing.T) { compareKustomize(t, root, dirs) })
	}
}

func TestKustomizeEqualsOracle(t *testing.T) {
	root := filepath.Join("testdata", "kustomize")
	compareKustomize(t, root, kustomizations(t, root))
}

func TestHelmEqualsOracle(t *testing.T) {
	helm := oracle(t, "helm")
	charts := filepath.Join("testdata", "charts")
	tree, err := memtree.Load(charts)
	if err != nil {
		t.Fatal(err)
	}
	pool := newPool(t, render.PoolOptions{Workers: 1})
	for _, c := range helmCases() {
		t.Run(c.name, func(t *testing.T) {
			opts := c.options
			opts.KubeVersion = kubeVersion
			args := []string{"template", opts.ReleaseName, filepath.Join(charts, c.chart), "--namespace", opts.Namespace, "--kube-version", kubeVersion}
			if !opts.SkipCRDs {
				args = append(args, "--include-crds")
			}
			if opts.SkipTests {
				args = append(args, "--skip-tests")
			}
			if opts.SkipSchemaValidation {
				args = append(args, "--skip-schema-validation")
			}
			for _, v := range opts.APIVersions {
				args = append(args, "--api-versions", v)
			}
			for _, f := range opts.ValueFiles {
				args = append(args, "--values", filepath.Join(charts, c.chart, f))
			}
			if opts.Values != "" {
				file := filepath.Join(t.TempDir(), "inline.yaml")
				if err := os.WriteFile(file, []byte(opts.Values), 0o600); err != nil {
					t.Fatal(err)
				}
				args = append(args, "--values", file)
			}
			for _, p := range opts.Parameters {
				flag := "--set"
				if p.ForceString {
					flag = "--set-string"
				}
				args = append(args, flag, p.Name+"="+strings.ReplaceAll(p.Value, ",", `\,`))
			}
			for _, p := range opts.FileParameters {
				args = append(args, "--set-file", p.Name+"="+filepath.Join(charts, c.chart, p.Value))
			}
			want, err := run(t, helm, args...)
			if err != nil {
				t.Fatal(err)
			}
			result, err := pool.Render(context.Background(), render.Request{Tree: tree, Path: c.chart, Helm: opts})
			if err != nil {
				t.Fatal(err)
			}
			if result.Uncacheable != c.uncacheable {
				t.Errorf("uncacheable because of %q, want %q", result.Uncacheable, c.uncacheable)
			}
			compare(t, encodeAll(t, result), decodeAll(t, want))
		})
	}
}

type helmCase struct {
	name, chart string
	options     render.HelmOptions
	uncacheable string
}

func helmCases() []helmCase {
	return []helmCase{
		{name: "defaults", chart: "web", uncacheable: "lookup", options: render.HelmOptions{ReleaseName: "rel", Namespace: "ns"}},
		{name: "skip", chart: "web", uncacheable: "lookup", options: render.HelmOptions{ReleaseName: "web", Namespace: "default", SkipCRDs: true, SkipTests: true}},
		{name: "values", chart: "web", uncacheable: "lookup", options: render.HelmOptions{
			ReleaseName: "rel", Namespace: "ns",
			ValueFiles:  []string{"production.yaml"},
			Values:      "podAnnotations: {example.com/c: '3'}\nenv: {RATIO: null, LARGE: 1e6}\n",
			APIVersions: []string{"example.com/v1/Widget"},
			Parameters: []render.HelmParameter{
				{Name: "image.tag", Value: "1", ForceString: true},
				{Name: "service.port", Value: "8443"},
				{Name: "env.LIST", Value: "a,b,c"},
				{Name: `podAnnotations.dotted\.name/x`, Value: "y"},
				{Name: "service.nodePorts[1]", Value: "30099"},
				{Name: "ingress.enabled", Value: "false"},
			},
			FileParameters: []render.HelmParameter{{Name: "env.FROM_FILE", Value: "config/one.conf"}},
		}},
		{name: "no schema", chart: "web", uncacheable: "lookup", options: render.HelmOptions{
			ReleaseName: "r", Namespace: "n", SkipSchemaValidation: true, Parameters: []render.HelmParameter{{Name: "replicaCount", Value: "-1"}},
		}},
		{name: "subcharts", chart: "umbrella", options: render.HelmOptions{ReleaseName: "u", Namespace: "n"}},
		{name: "conditions", chart: "umbrella", options: render.HelmOptions{
			ReleaseName: "u", Namespace: "n", Values: "replica: {enabled: true, size: 3Gi}\nprimary: {enabled: true}\npacked: {greeting: hi}\nglobal: {team: other}\n",
		}},
		{name: "api version v1", chart: "legacy", options: render.HelmOptions{ReleaseName: "l", Namespace: "n"}},
		{name: "api version v1 off", chart: "legacy", options: render.HelmOptions{ReleaseName: "l", Namespace: "n", Values: "old: {enabled: false}"}},
	}
}
