package controller

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What the reconcilers refuse by name, the pages say to be refused; and what
// the pages say to be refused as a whole, somebody refuses.
func TestRefusedFieldsAreDocumented(t *testing.T) {
	for page, maps := range map[string][]map[string]string{
		"application.md":    {unsupportedApplication},
		"gitrepository.md":  {unsupportedGitRepository},
		"ocirepository.md":  {unsupportedOCIRepository},
		"helmrepository.md": {unsupportedHelmRepository, unsupportedHelmChart},
		"helmrelease.md":    {unsupportedHelmRelease},
	} {
		data, err := os.ReadFile(filepath.Join("..", "..", "docs", "spec", page))
		if err != nil {
			t.Fatal(err)
		}
		_, table, found := strings.Cut(string(data), "## All fields")
		if !found {
			t.Fatalf("%s has no table of all fields", page)
		}
		for _, refused := range maps {
			for path := range refused {
				if strings.HasPrefix(path, "spec.sources.") { // each is as spec.source
					continue
				}
				checkRefused(t, page, table, strings.ReplaceAll(path, ".*", "[]"))
			}
		}
	}
}

func checkRefused(t *testing.T, page, table, path string) {
	t.Helper()
	rows := 0
	for line := range strings.SplitSeq(table, "\n") {
		name, says, _ := strings.Cut(strings.TrimPrefix(line, "| `"), "` | ")
		if name != path && !strings.HasPrefix(name, path+".") && !strings.HasPrefix(name, path+"[]") {
			continue
		}
		rows++
		if !strings.HasPrefix(says, "refused") {
			t.Errorf("%s says of %s %q, and it is refused", page, name, says)
		}
	}
	// accessFrom of a GitRepository is of an older version.
	if rows == 0 && path != "spec.accessFrom" {
		t.Errorf("%s does not name %s, which is refused", page, path)
	}
}
