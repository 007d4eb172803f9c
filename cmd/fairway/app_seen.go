package main

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/controller"
)

// waiting is a delivery that is waited for. It is safe for concurrent use.
type waiting struct {
	name  string
	want  appWait
	out   io.Writer
	live  bool
	began time.Time

	mu       sync.Mutex
	row      appRow
	operates bool
	last     string
}

// look takes in the delivery as it is now, and says whether it is as wanted.
func (w *waiting) look(obj client.Object) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.operates = false
	switch obj := obj.(type) {
	case *argo.Application:
		w.row, w.operates = applicationRow(obj), obj.Operation != nil
	case *kustomizev1.Kustomization:
		w.row, w.operates = kustomizationRow(obj), obj.Status.ObservedGeneration != obj.Generation
	case *helmv2.HelmRelease:
		w.row, w.operates = helmReleaseRow(obj), obj.Status.ObservedGeneration != obj.Generation
	}
	if line := w.name + ": " + waitLine(w.row, w.operates); line != w.last {
		w.last = line
		showWait(w.out, w.live, time.Since(w.began), line)
	}
	return w.want.done(w.row, w.operates)
}

// rests says that the delivery is as wanted, whatever its revision.
func (w *waiting) rests() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	want := w.want
	want.revision = ""
	return w.last != "" && want.done(w.row, w.operates)
}

// untilDone follows the delivery until it is as wanted, or the server says so.
func (o *appOptions) untilDone(ctx context.Context, c client.WithWatch, obj client.Object, w *waiting, timeout time.Duration) error {
	errSeen := errors.New("the server is done with the commit")
	ctx, end := context.WithCancelCause(ctx)
	var asking sync.WaitGroup
	if w.want.revision != "" {
		asking.Go(func() {
			if o.untilSeen(ctx, w.name, w.want.revision, w.rests) {
				end(errSeen)
			}
		})
	}
	err := follow(ctx, c, obj, timeout, w.look)
	end(nil)
	asking.Wait()
	if errors.Is(err, errSeen) {
		return nil
	}
	return err
}

// seenPause is how long after it was asked the server is asked again.
const seenPause = 500 * time.Millisecond

// untilSeen asks the server until it is done with the commit for the delivery,
// and rests says that the delivery is otherwise as it is waited for. A commit
// that changes nothing for a delivery is not written into its status. False is
// for a server that cannot be asked, and for ctx's end.
func (o *appOptions) untilSeen(ctx context.Context, name, commit string, rests func() bool) bool {
	for {
		var seen controller.Seen
		if err := o.ask(ctx, name, asking("seen", "", &seen)); err != nil {
			return false
		}
		if slices.ContainsFunc(seen.Revisions, func(r string) bool { return strings.HasPrefix(r, commit) }) && rests() {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(seenPause):
		}
	}
}
