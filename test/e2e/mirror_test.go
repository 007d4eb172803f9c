package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A mirror goes a day after the last object that referred to it, and stays as
// long as there is one.
func TestMirrorsOfNobodyGo(t *testing.T) {
	instance, _ := own(t)
	files := map[string]string{"app/cm.yaml": configMap("c", "one")}
	mirrors := func() []string {
		all, err := filepath.Glob(filepath.Join(instance.data, "git", "mirrors", "*.git"))
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	for i, app := range []string{"mirror-kept", "mirror-left"} {
		instance.apply(t, application(app, newExternal(t, files).url, "app", app))
		instance.want(t, "one", "get", "configmap", "c", "-n", app, "-o", "jsonpath={.data.key}")
		if got := mirrors(); len(got) != i+1 {
			t.Fatalf("mirrors: %q", got)
		}
	}
	instance.must(t, "app", "delete", "mirror-left")
	instance.want(t, "", "get", "application", "mirror-left", "-n", "argocd", "--ignore-not-found", "-o", "name")
	instance.must(t, "down")
	for _, dir := range mirrors() {
		then := time.Now().Add(-25 * time.Hour)
		if err := os.Chtimes(filepath.Join(dir, "fairway-mirror.json"), then, then); err != nil {
			t.Fatal(err)
		}
	}
	instance.must(t, "up")
	eventually(t, func() string {
		if got := mirrors(); len(got) != 1 {
			return fmt.Sprintf("mirrors: %q", got)
		}
		return ""
	})
	instance.must(t, "app", "get", "mirror-kept", "--refresh")
	instance.want(t, "Synced", "get", "application", "mirror-kept", "-n", "argocd", "-o", "jsonpath={.status.sync.status}")
}
