package drift

import (
	"testing"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/kube"
	"github.com/fairway-cd/fairway/internal/mark"
)

// Of two questions about an object only the answer to the later one counts, in
// whichever order they come: it went between the two.
func TestAnswersToTwoQuestions(t *testing.T) {
	owner := core.Owner{Dialect: core.ArgoCD, Kind: mark.KindApplication, Namespace: "argocd", Name: "app"}
	ref := core.ObjectRef{Version: "v1", Kind: "ConfigMap", Namespace: "here", Name: "it"}
	key := kube.Key{Namespace: ref.Namespace, Name: ref.Name}
	for name, answers := range map[string]func(k *kind, there, gone func()){
		"the first one last":          func(_ *kind, there, gone func()) { gone(); there() },
		"the first one first":         func(_ *kind, there, gone func()) { there(); gone() },
		"the first one before it all": nil,
	} {
		t.Run(name, func(t *testing.T) {
			c := New(nil)
			c.Expect(owner, []core.ObjectRef{ref})
			k := c.kinds[groupKindOf(ref)]
			k.Set(key, &projection{version: 7})
			c.Recheck(owner)
			_, first, ok := k.takeDoubt()
			if !ok {
				t.Fatal("it is not asked for")
			}
			there := func() { k.there(key, first, &projection{version: 7}) }
			k.Delete(key) // its end, while the answer is on its way
			if answers == nil {
				there()
			}
			_, second, ok := k.takeDoubt()
			if !ok {
				t.Fatal("its end is not asked for")
			}
			if gone := func() { k.gone(key, second) }; answers == nil {
				gone()
			} else {
				answers(k, there, gone)
			}
			if states := c.State(owner); len(states) != 1 || states[0].Drift != Deleted {
				t.Errorf("it is taken for %+v", states)
			}
		})
	}
}
