package health

import (
	"os"
	"path/filepath"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/fairway-cd/fairway/internal/core"
)

// publishedCase is a case of Argo CD's health_test.yaml.
type publishedCase struct {
	InputPath    string
	HealthStatus struct{ Status, Message string }
}

// Argo CD's published cases. They run a kind's script alone, without what Argo
// CD says of an object that is being deleted before it asks the script; so
// that is left out here, unless the rule itself has something to say of it.
func TestCorpus(t *testing.T) {
	root := os.Getenv("FAIRWAY_CORPUS")
	if root == "" {
		root = "../../../shared/corpus"
	}
	files, err := filepath.Glob(filepath.Join(root, "health/*/*/health_test.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skipf("the corpus is not at %s (FAIRWAY_CORPUS)", root)
	}
	table, err := New()
	if err != nil {
		t.Fatal(err)
	}
	all, right := 0, 0
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var cases struct{ Tests []publishedCase }
		if err := yaml.Unmarshal(b, &cases); err != nil {
			t.Fatal(err)
		}
		dir := filepath.Dir(file)
		kind := filepath.Base(filepath.Dir(dir)) + "/" + filepath.Base(dir)
		for _, c := range cases.Tests {
			all++
			if t.Run(kind+"/"+filepath.Base(c.InputPath), func(t *testing.T) { c.run(t, table, dir) }) {
				right++
			}
		}
	}
	t.Logf("%d of %d cases, %.1f %%", right, all, 100*float64(right)/float64(all))
}

func (c publishedCase) run(t *testing.T, table *Table, dir string) {
	b, err := os.ReadFile(filepath.Join(dir, c.InputPath))
	if err != nil {
		t.Fatal(err)
	}
	obj := parse(t, b)
	gk := obj.GroupVersionKind().GroupKind()
	if r := table.argo.find(gk); (r == nil || !r.spec.Deletion) && gk.Kind != "CustomResourceDefinition" {
		obj.SetDeletionTimestamp(nil)
	}
	health, message := table.Of(core.ArgoCD, obj)
	if string(health) != c.HealthStatus.Status || message != c.HealthStatus.Message {
		t.Errorf("is %s %q, want %s %q", health, message, c.HealthStatus.Status, c.HealthStatus.Message)
	}
}
