package health

import (
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fairway-cd/fairway/internal/core"
)

// Owned is the form of a health rule that knows whose the object is.
type Owned func(owner core.Owner, obj *unstructured.Unstructured) (core.Health, string)

// Owners are the rules of a Live table, and before them those that an owner
// has for its own objects (Flux' spec.healthCheckExprs). The zero value is
// ready for use; it is safe for concurrent use.
type Owners struct {
	Live
	mu  sync.RWMutex
	own map[core.Owner]ownRules
}

type ownRules struct {
	checks []Check
	rules  map[schema.GroupKind]Func
}

// Of is an Owned.
func (o *Owners) Of(owner core.Owner, obj *unstructured.Unstructured) (core.Health, string) {
	o.mu.RLock()
	rule := o.own[owner].rules[obj.GroupVersionKind().GroupKind()]
	o.mu.RUnlock()
	if rule != nil {
		return rule(owner.Dialect, obj)
	}
	return o.Live.Of(owner.Dialect, obj)
}

// Check sets the owner's own rules, and says whether these are others than
// before. The error, which names what is wrong, leaves them.
func (o *Owners) Check(owner core.Owner, checks []Check) (changed bool, err error) {
	o.mu.RLock()
	same := slices.Equal(o.own[owner].checks, checks)
	o.mu.RUnlock()
	if same {
		return false, nil
	}
	rules, err := rulesOf(checks)
	if err != nil {
		return false, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(checks) == 0 {
		delete(o.own, owner)
		return true, nil
	}
	if o.own == nil {
		o.own = map[core.Owner]ownRules{}
	}
	o.own[owner] = ownRules{slices.Clone(checks), rules}
	return true, nil
}
