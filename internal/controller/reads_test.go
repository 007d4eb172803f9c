package controller

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/memtree"
	"github.com/fairway-cd/fairway/internal/render"
)

// A change that makes a difference to what was read is never missed, whatever
// it is: render.Unchanged, which looks at the trees themselves, is the judge.
func TestChangedPlacesMissNothing(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	tried, concerned := 0, 0
	for n := range 3000 {
		old := randomTree(rng)
		now := changedFiles(rng, old)
		before, after := memtree.New(old), memtree.New(now)
		changed, err := changedPlaces(t.Context(), before, after)
		if err != nil {
			t.Fatal(err)
		}
		inputs := rendered(t.Context(), rng, before)
		if inputs == nil {
			continue
		}
		same, err := render.Unchanged(t.Context(), inputs, map[string]core.Tree{"": after})
		if err != nil {
			t.Fatal(err)
		}
		places := placesOf(inputs)
		touched := slices.ContainsFunc(changed, func(p string) bool { return slices.Contains(places, p) })
		if !same && !touched {
			t.Fatalf("%d: %v became %v, which changes %v; of the inputs %v none is in %v", n, old, now, changed, inputs, changed)
		}
		tried++
		if touched {
			concerned++
		}
	}
	if tried < 300 || concerned < tried/10 || concerned > tried*9/10 {
		t.Errorf("%d of %d changes concerned what was read, which says little", concerned, tried)
	}
}

// What was not read is of no concern.
func TestChangedPlacesAreFew(t *testing.T) {
	files := map[string]string{}
	for i := range 50 {
		files[fmt.Sprintf("apps/app-%02d/app.yaml", i)] = "one"
	}
	before := memtree.New(files)
	files["apps/app-07/app.yaml"], files["README.md"] = "two", "new"
	changed, err := changedPlaces(t.Context(), before, memtree.New(files))
	slices.Sort(changed)
	if want := []string{"./", "README.md", "apps/app-07/app.yaml"}; err != nil || !slices.Equal(changed, want) {
		t.Errorf("changed places are %v, %v; want %v", changed, err, want)
	}
}

// A change of more places than are looked at concerns everybody, as one that
// cannot be read does.
func TestChangedPlacesAreBounded(t *testing.T) {
	files := map[string]string{}
	for i := range mostChanges + 1 {
		files[fmt.Sprintf("%d/%d", i%500, i)] = ""
	}
	if _, err := changedPlaces(t.Context(), memtree.New(map[string]string{"a": ""}), memtree.New(files)); !errors.Is(err, errManyChanges) {
		t.Errorf("error %v", err)
	}
}

func TestReadsWakeWhomItConcerns(t *testing.T) {
	key := func(name string) types.NamespacedName { return types.NamespacedName{Name: name} }
	at := func(commit string) artifact {
		return artifact{snapshot: core.Snapshot{Revision: core.Revision{Commit: commit}}}
	}
	r := newReads()
	r.join(key("one"), sourceRead{"s", at("1"), []string{"base", "one"}})
	r.join(key("two"), sourceRead{"s", at("1"), []string{"base", "two"}})
	r.join(key("late"), sourceRead{"s", at("0"), []string{"late"}})
	follow := func(commit string) string {
		var names []string
		for _, name := range []string{"one", "two", "late"} {
			if r.follows(key(name), "s", at(commit)) {
				names = append(names, name)
			}
		}
		return strings.Join(names, " ")
	}
	check := func(what, commit, want string) {
		t.Helper()
		if got := follow(commit); got != want {
			t.Errorf("%s: %q follow at %s, want %q", what, got, commit, want)
		}
	}
	check("a delivery that looked at an older revision does not join", "1", "one two")
	r.advance("s", at("1").id(), at("2"), []string{"two", "else"})
	check("whoever read what changed is forgotten", "2", "one")
	check("nobody is where the source was", "1", "")
	r.join(key("two"), sourceRead{"s", at("2"), []string{"base", "two", "new"}})
	check("and joins again when it is done", "2", "one two")
	r.advance("s", at("2").id(), at("3"), []string{})
	check("a change of nothing concerns nobody", "3", "one two")
	r.advance("s", at("2").id(), at("4"), []string{})
	check("a step that was missed concerns everybody", "4", "")
	r.join(key("one"), sourceRead{"s", at("4"), []string{"one"}})
	r.advance("s", at("4").id(), at("5"), nil)
	check("and so does a change that is not known", "5", "")
	r.join(key("one"), sourceRead{"s", at("5"), []string{"one"}}, sourceRead{"t", at("5"), []string{"one"}})
	r.advance("t", at("5").id(), at("6"), []string{"one"})
	check("a delivery of two sources is concerned by each", "5", "")
	r.join(key("one"), sourceRead{"s", at("5"), []string{"here"}}, sourceRead{"s", at("5"), []string{"there"}})
	r.advance("s", at("5").id(), at("6"), []string{"here"})
	check("and one that reads a source twice by both", "6", "")
	r.join(key("two"), sourceRead{"t", at("6"), []string{"two"}})
	r.join(key("one"), sourceRead{"s", at("6"), []string{"one"}}, sourceRead{"t", at("7"), []string{"one"}})
	check("whose sources are not all where they are known to be joins none", "6", "")
	if len(r.sources(key("one"))) != 0 {
		t.Errorf("it is a member of %v", r.sources(key("one")))
	}
	r.leave(key("two"))
	if len(r.followed)+len(r.members) != 0 {
		t.Errorf("something is left: %v %v", r.followed, r.members)
	}
}

func randomPath(rng *rand.Rand) string {
	pick := func(names ...string) string { return names[rng.IntN(len(names))] }
	name := pick("x.yaml", "y.yaml", "z.txt")
	for range rng.IntN(3) {
		name = pick("a", "b") + "/" + name
	}
	return name
}

// randomTree has no file where another has a directory.
func randomTree(rng *rand.Rand) map[string]any {
	files := map[string]any{}
	for range 1 + rng.IntN(6) {
		put(files, randomPath(rng), randomContent(rng))
	}
	return files
}

func randomContent(rng *rand.Rand) any {
	if rng.IntN(5) == 0 {
		return memtree.Link(path.Base(randomPath(rng)))
	}
	return configMap(fmt.Sprint("n", rng.IntN(9)), fmt.Sprint(rng.IntN(3)))
}

func put(files map[string]any, name string, content any) {
	for other := range files {
		if strings.HasPrefix(other, name+"/") || strings.HasPrefix(name, other+"/") {
			delete(files, other)
		}
	}
	files[name] = content
}

func changedFiles(rng *rand.Rand, old map[string]any) map[string]any {
	now := map[string]any{}
	for name, content := range old {
		if rng.IntN(4) != 0 {
			now[name] = content
		}
	}
	for range rng.IntN(3) {
		put(now, randomPath(rng), randomContent(rng))
	}
	return now
}

// rendered is what a renderer has read of the tree; nothing where it does not
// render.
func rendered(ctx context.Context, rng *rand.Rand, tree core.Tree) []render.Input {
	req := render.Request{Tree: tree, Path: path.Dir(randomPath(rng))}
	req.Plain.Recurse = rng.IntN(2) == 0
	if req.Plain.Recurse {
		req.Tool = render.Plain
	}
	result, err := render.NewEngine(render.Limits{}).Render(ctx, req)
	if err != nil {
		return nil
	}
	return result.Inputs
}
