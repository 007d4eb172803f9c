package render

import (
	"os"
	"strings"
	"testing"
)

// TestVersionsAreThoseOfGoMod fails when a library was upgraded without its
// version in the keys.
func TestVersionsAreThoseOfGoMod(t *testing.T) {
	data, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for module, version := range map[string]string{
		"sigs.k8s.io/kustomize/api":    kustomizeVersion,
		"helm.sh/helm/v4":              helmVersion,
		"github.com/google/go-jsonnet": jsonnetVersion,
	} {
		if !strings.Contains(string(data), module+" "+version) {
			t.Errorf("go.mod has another version of %s than %s", module, version)
		}
	}
}
