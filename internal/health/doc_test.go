package health

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/fairway-cd/fairway/internal/core"
)

const page = "../../docs/spec/health.md"

// The page names every kind that has a rule, and where the rule comes from.
func TestPageNamesAllKinds(t *testing.T) {
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range shippedFiles(t) {
		doc, err := f.parse()
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows(doc) {
			if !strings.Contains(string(b), row+"\n") {
				t.Errorf("%s: the page lacks\n%s", f.Name, row)
			}
		}
	}
}

// rows are a file's in the table of kinds: one a group.
func rows(doc *document) []string {
	var groups []string
	kinds := map[string][]string{}
	sources := map[string]string{}
	for _, r := range doc.Rules {
		source := r.Source
		if source == "" {
			source = doc.Source
		}
		for _, kind := range r.Kinds {
			group, kind := splitKind(kind)
			key := group + " " + source
			if kinds[key] == nil {
				groups = append(groups, key)
				sources[key] = source
			}
			kinds[key] = append(kinds[key], kind)
		}
	}
	var out []string
	for _, key := range groups {
		group, _, _ := strings.Cut(key, " ")
		list := strings.ReplaceAll(strings.Join(kinds[key], ", "), "*", `\*`)
		out = append(out, fmt.Sprintf("| `%s` | %s | %s |", group, list, sources[key]))
	}
	return out
}

// The rules that the page shows can be read.
func TestRulesOfThePage(t *testing.T) {
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(b), -1)
	if len(blocks) == 0 {
		t.Fatal("the page shows no rules")
	}
	for _, block := range blocks {
		table, err := New(File{Name: page, Text: []byte(block[1])})
		if err != nil {
			t.Fatal(err)
		}
		obj := parse(t, []byte(`{apiVersion: example.com/v1, kind: Database, spec: {replicas: 3}, status: {ready: 2, backups: [{name: a, state: done}]}}`))
		if h, msg := table.Of(core.Flux, obj); h != core.Progressing || msg != "2 of 3 replicas are ready" {
			t.Errorf("is %s %q", h, msg)
		}
	}
}
