package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A newcomer types what README says, after "make up" on an instance of his
// own, and sees what README promises.
func TestReadme(t *testing.T) {
	bin, err := program("FAIRWAY_BIN", "fairway")
	if err != nil {
		t.Fatal(err)
	}
	own := newInstance(bin, filepath.Join(t.TempDir(), "data"))
	t.Cleanup(func() { _, _ = own.run(context.Background(), "down") })
	own.must(t, "up", "--port", fmt.Sprint(freePort()))
	r := newReader(t, own)
	// The demo is compiled: with the cache that there is, not one below the new home.
	cache, err := exec.CommandContext(t.Context(), "go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	r.env = append(r.env, "GOCACHE="+strings.TrimSpace(string(cache)), "CGO_ENABLED=0", "GOFLAGS=-trimpath -buildvcs=false")
	if _, err := r.exec(t.Context(), projectRoot(t), "hack/demo.sh"); err != nil {
		t.Fatal(err)
	}

	production := func(args ...string) []string { return append(args, "-n", "production") }
	deployment := func(path string) string {
		return own.kubectl(t, production("get", "deployment", "web-app", "-o", "jsonpath={"+path+"}")...)
	}
	promises := map[string]func(printed string){
		"look": func(printed string) {
			for _, want := range []string{"running", "web-app-dev", "web-app-production", "Synced", "Healthy"} {
				if !strings.Contains(printed, want) {
					t.Errorf("%q is not in what is printed:\n%s", want, printed)
				}
			}
		},
		"push": func(printed string) {
			if !strings.Contains(printed, "Bonjour") {
				t.Errorf("the greeting is not in the cluster:\n%s", printed)
			}
		},
		"drift": nil, // below, for it needs to know what was before
		"prune": func(printed string) {
			if strings.Contains(printed, "web-app-notes") {
				t.Errorf("the ConfigMap was not pruned:\n%s", printed)
			}
		},
		"rollback": func(printed string) {
			if log := strings.Split(r.git(t, filepath.Join(r.dir, "demo"), "log", "--format=%s"), "\n"); len(log) != 4 {
				t.Errorf("the log has %d commits, want that of the rollback as the fourth:\n%s", len(log), printed)
			}
			own.want(t, "configmap/web-app-notes", production("get", "configmap", "web-app-notes", "-o", "name")...)
		},
	}
	ran := 0
	for _, b := range readPage(t, "README.md") {
		if b.name == "" {
			continue
		}
		promise, ok := promises[b.name]
		if !ok {
			t.Fatalf("README.md:%d: nothing is known of a block %s", b.line, b.name)
		}
		before := ""
		if b.name == "drift" {
			before = deployment(".metadata.generation")
		}
		printed := r.run(t, "README.md", b)
		if b.name == "drift" {
			own.want(t, "2", production("get", "deployment", "web-app", "-o", "jsonpath={.spec.replicas}")...)
			// Once by hand, and once back.
			if was, is := number(t, before), number(t, deployment(".metadata.generation")); is < was+2 {
				t.Errorf("the deployment was not scaled and healed: generation %d, then %d", was, is)
			}
		} else {
			promise(printed)
		}
		ran++
	}
	if ran != len(promises) {
		t.Errorf("README has %d of the %d blocks that are to be run", ran, len(promises))
	}
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
