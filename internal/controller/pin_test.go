package controller

import (
	"errors"
	"slices"
	"strings"
	"testing"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

func sourcesOf(urls ...string) *delivery {
	d := &delivery{owner: argoOwner("web")}
	for _, url := range urls {
		repo, chart, _ := strings.Cut(url, "#")
		d.sources = append(d.sources, source{from: SourceRequest{URL: repo, Chart: chart}})
	}
	return d
}

func TestRevisionsAt(t *testing.T) {
	for _, c := range []struct {
		d    *delivery
		text string
		want []string
	}{
		{sourcesOf("a"), "", nil},
		{sourcesOf("a"), "1", []string{"1"}},
		{sourcesOf("a", "b"), "1, 2", []string{"1", "2"}},
		{sourcesOf("a", "b"), ",2", []string{"", "2"}},
		{sourcesOf("a", "b", "a"), "1", []string{"1", "", "1"}},
		{sourcesOf("a#chart", "a", "a#other"), "sha256:1", []string{"sha256:1", "", ""}},
	} {
		got, err := c.d.revisionsAt(c.text)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%q of %v: %q, %v, want %q", c.text, c.d.urls(), got, err, c.want)
		}
	}
	var wrong *revisionsError
	if got, err := sourcesOf("a", "b", "c").revisionsAt("1,2"); !errors.As(err, &wrong) {
		t.Errorf("two revisions of three sources: %q, %v", got, err)
	}
}

func TestPinSaysWhichSource(t *testing.T) {
	p := pin{Revision: "abc,,sha256:def", Reason: "bad", By: "ada", At: "now"}
	if got, want := p.String(), "pinned to abc (source 1), sha256:def (source 3) by ada at now: bad"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestGoodEntry(t *testing.T) {
	v := &view{delivery: sourcesOf("a", "b#chart"), history: []deployed{
		{id: 3, revisions: []string{"aaaaaaaa1", "sha256:cccccccc1"}},
		{id: 4, revisions: []string{"aaaaaaaa1", "sha256:cccccccc2"}},
		{id: 5, revisions: []string{"bbbbbbbb1", "sha256:cccccccc2"}},
	}}
	for _, c := range []struct {
		to         string
		undeployed bool
		id         int64
		ambiguous  bool
	}{
		{to: "", id: 4},
		{to: "", undeployed: true, id: 5},
		{to: "3", id: 3},
		{to: "6", id: -1},
		{to: "bbbbbbbb", id: 5},
		{to: "aaaaaaaa", id: -1, ambiguous: true},
		{to: "sha256:cccccccc1", id: 3},
		{to: "cccccccc1", id: 3},
		{to: "aaaaaaaa1,sha256:cccccccc2", id: 4},
		{to: "dddddddd1", id: -1}, // of which source is not known
		{to: "dddddddd1,sha256:cccccccc1", id: 0},
		{to: "aaaaaaaa1,", id: -1},
	} {
		v.undeployed = c.undeployed
		got, err := v.goodEntry(c.to)
		var missing *NoSuchRevisionError
		switch {
		case c.id < 0:
			if !errors.As(err, &missing) || missing.Ambiguous != c.ambiguous {
				t.Errorf("%q: %+v, %v", c.to, got, err)
			}
		case err != nil || got.id != c.id:
			t.Errorf("%q: %+v, %v, want entry %d", c.to, got, err, c.id)
		}
	}
	// What had other sources cannot be gone back to.
	v.history[0].sources = []argo.ApplicationSource{{RepoURL: "a"}, {RepoURL: "other", Chart: "chart"}}
	var changed *SourcesChangedError
	if _, err := v.goodEntry("3"); !errors.As(err, &changed) || !slices.Equal(changed.Fields, []string{"spec.sources[1]"}) {
		t.Errorf("another repository then: %v", err)
	}
}

func TestChangedFields(t *testing.T) {
	v := &view{sources: []argo.ApplicationSource{{RepoURL: "a", TargetRevision: "2.0.0", Helm: &argo.SourceHelm{Values: "x"}}}}
	h := deployed{sources: []argo.ApplicationSource{{RepoURL: "a", TargetRevision: "1.0.0", Path: "app"}}}
	if got := strings.Join(v.changedFields(h), " "); got != "spec.source.helm spec.source.path spec.source.targetRevision" {
		t.Error(got)
	}
	if got := v.changedFields(deployed{sources: v.sources}); got != nil {
		t.Errorf("nothing changed but %v", got)
	}
}

// FuzzGoodEntry: what is typed or annotated finds an entry, is as many
// revisions as there are sources, or is refused.
func FuzzGoodEntry(f *testing.F) {
	for _, seed := range []string{"", "0", "-1", "99999999999999999999", "abcdefg", "abcdefg,", ",", "sha256:", "abcdefgh,sha256:abcdefg", "a,b,c"} {
		f.Add(seed)
	}
	v := &view{delivery: sourcesOf("a", "b"), history: []deployed{{id: 0, revisions: []string{"abcdefgh", "sha256:abcdefg"}}}}
	f.Fuzz(func(t *testing.T, to string) {
		if got, err := v.goodEntry(to); err == nil && (len(got.revisions) != 2 || slices.Contains(got.revisions, "")) {
			t.Errorf("%q: %+v", to, got)
		}
		if got, err := v.delivery.revisionsAt(to); err == nil && to != "" && len(got) != 2 {
			t.Errorf("%q: %q", to, got)
		}
	})
}

func TestPlainWord(t *testing.T) {
	for s, want := range map[string]bool{"app/a.yaml": true, "a b": false, "a;b": false, "../a": false, "$(x)": false, "a\x1b[0m": false, "": false, "é": false} {
		if plainWord(s) != want {
			t.Errorf("%q", s)
		}
	}
}
