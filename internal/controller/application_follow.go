package controller

import (
	"context"
	"path"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/fairway-cd/fairway/internal/core"
)

const branches = "refs/heads/"

// followedBranch names a branch of a repository as reads knows it.
func followedBranch(url, ref string) string { return url + " " + ref }

// branchAt is the branch at a commit. Its tree is asked for when it is needed.
func branchAt(req SourceRequest, ref, commit string) artifact {
	return artifact{snapshot: core.Snapshot{Revision: core.Revision{Ref: ref, Commit: commit}}, request: req}
}

// follow notes that the Application is done with its sources as they are, if
// all of them are branches. What is found by other names (a chart's version, a
// range of tags) can change by any update.
func (a *applicationRun) follow() {
	t := a.target
	if t == nil || t.digest != a.deployed || a.delivery.pin.Revision != "" {
		return
	}
	for i, s := range a.delivery.sources {
		if s.from.Chart != "" || !strings.HasPrefix(t.revisions[i].Ref, branches) {
			return
		}
	}
	all := make([]sourceRead, len(t.revisions))
	for i, s := range a.delivery.sources {
		r := t.revisions[i]
		all[i] = sourceRead{followedBranch(s.from.URL, r.Ref), branchAt(s.from, r.Ref, r.Commit), t.places[i]}
	}
	a.reads.join(a.key, all...)
}

// followRefs wakes the Applications that updates of references concern, until
// ctx ends.
func (r *applications) followRefs(ctx context.Context) error {
	defer context.AfterFunc(ctx, r.updates.ShutDown)()
	for {
		update, end := r.updates.Get()
		if end {
			return nil
		}
		r.refUpdated(ctx, update)
		r.updates.Done(update)
	}
}

func (r *applications) refUpdated(ctx context.Context, update core.RefUpdate) {
	same := func(url string) bool { return r.stages.Sources.Same(url, update) }
	for _, url := range r.bySource.names(same) {
		if at, known := r.reads.known(followedBranch(url, update.Ref)); known {
			r.advance(ctx, at.request, update)
		}
	}
	for _, key := range r.bySource.on(same) {
		if !r.untouched(key, same, update) {
			r.wake.wake(key, sourceMoved)
		}
	}
}

// advance moves the branch on for who follows it.
func (r *applications) advance(ctx context.Context, req SourceRequest, update core.RefUpdate) {
	changed, err := r.changedBy(ctx, req, update)
	if err != nil {
		log.FromContext(ctx).V(1).Info("what has changed is not known", "ref", update.Ref, "revision", update.New, "error", err.Error())
		changed = nil // and so it concerns everybody
	}
	r.reads.advance(followedBranch(req.URL, update.Ref), branchAt(req, update.Ref, update.Old).id(), branchAt(req, update.Ref, update.New), changed)
}

// changedBy are the places that the update has changed.
func (r *applications) changedBy(ctx context.Context, req SourceRequest, update core.RefUpdate) ([]string, error) {
	var trees [2]core.Tree
	for i, commit := range []string{update.Old, update.New} {
		req.Ref = SourceRef{Commit: commit}
		snap, err := r.stages.Sources.Resolve(ctx, req)
		if err != nil {
			return nil, err
		}
		trees[i] = snap.Tree
	}
	return changedPlaces(ctx, trees[0], trees[1])
}

// untouched says that the update does not concern the Application: it follows
// the branch and has read nothing that has changed, or it follows another one.
func (r *applications) untouched(key types.NamespacedName, same func(string) bool, update core.RefUpdate) bool {
	sources := r.reads.sources(key)
	for _, source := range sources {
		url, ref, _ := strings.Cut(source, " ")
		// A tag of the branch's name may be meant instead from now on.
		if same(url) && ref != update.Ref && !strings.HasPrefix(update.Ref, branches) && path.Base(ref) == path.Base(update.Ref) {
			return false
		}
	}
	return len(sources) > 0
}
