package controller

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// anyChange names any change of an object on which others depend, where
// becoming ready is not all that counts.
func anyChange(dep string) string { return "any change of " + dep }

// checkReadyExpr refuses a dependency's expression that cannot be evaluated.
func (e *Engine) checkReadyExpr(path, text string, refused *SpecError) {
	if text == "" {
		return
	}
	if err := e.readiness.Check(text); err != nil {
		refused.add(path, "%v", err)
	}
}

// readyBy is an error unless a dependency is ready by the expression, which
// takes the place of its Ready condition, as in Flux.
func (e *Engine) readyBy(text string, self, dep *unstructured.Unstructured) error {
	key := client.ObjectKeyFromObject(dep)
	ready, err := e.readiness.Holds(text, self.Object, dep.Object)
	switch {
	case err != nil:
		return &notReadyError{key, "cannot be judged by readyExpr: " + err.Error()}
	case !ready:
		return &notReadyError{key, "is not ready according to readyExpr"}
	}
	return nil
}

// tellAnyChange wakes who depends on any change of the object, where the run
// has written it or it was changed by somebody. It is no change of theirs, so
// that two that depend on each other come to rest.
func (x *index) tellAnyChange(w *waker, dep string, run fluxObject, before string) {
	now := run.object.GetResourceVersion()
	if written := run.written.Load(); written != nil {
		now = newer(written, run.object).GetResourceVersion()
	}
	if now == before && !run.why.has(specChanged) {
		return
	}
	for _, key := range x.of(anyChange(dep)) {
		w.wake(key, sourceMoved)
	}
}
