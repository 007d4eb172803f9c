package controller

import (
	"context"
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// A commit is looked at before a thousand objects that have drifted, and what
// has drifted and is committed too, with the commits.
func TestCommitBeforeDrifts(t *testing.T) {
	w := newWaker()
	timer := unhurried{reconcile.Func(func(context.Context, reconcile.Request) (reconcile.Result, error) {
		return reconcile.Result{RequeueAfter: time.Hour}, nil
	})}
	for i := range 500 {
		w.wake(types.NamespacedName{Name: fmt.Sprint("before-", i)}, drifted)
	}
	queue := priorityqueue.New[reconcile.Request]("test")
	defer queue.ShutDown()
	if err := w.source().Start(context.Background(), queue); err != nil {
		t.Fatal(err)
	}
	for i := range 500 {
		key := types.NamespacedName{Name: fmt.Sprint("drifted-", i)}
		// Each was reconciled because somebody asked, and has asked for a timer.
		res, err := timer.Reconcile(context.Background(), reconcile.Request{NamespacedName: key})
		if err != nil || res.Priority == nil {
			t.Fatalf("a timer is %+v, %v", res, err)
		}
		queue.AddWithOpts(priorityqueue.AddOpts{After: res.RequeueAfter, Priority: res.Priority}, reconcile.Request{NamespacedName: key})
		w.wake(key, drifted)
	}
	w.wake(types.NamespacedName{Name: "committed"}, sourceMoved)
	w.wake(types.NamespacedName{Name: "drifted-499"}, sourceMoved)
	first := map[string]bool{}
	for range 2 {
		req, _ := queue.Get()
		first[req.Name] = true
	}
	if !first["committed"] || !first["drifted-499"] {
		t.Errorf("first come %v", first)
	}
	if n := queue.Len(); n != 999 {
		t.Errorf("%d wait", n)
	}
}
