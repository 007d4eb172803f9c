package controller

import (
	"net/http"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-cd/fairway/internal/core"
)

// Seen is up to where a delivery has seen its sources. The status has what
// last changed something for it; commits since then that change nothing which
// it reads cost it nothing, and so are not written there.
type Seen struct {
	// Revisions are commits and digests, one for each source; none while the
	// delivery is not done with what is new.
	Revisions []string `json:"revisions"`
}

func (e *Engine) serveSeen(r *http.Request, owner core.Owner, _ core.User) (any, error) {
	if _, err := e.object(r.Context(), owner); err != nil {
		return nil, err
	}
	reads := e.apps.reads
	if owner.Dialect == core.Flux {
		reads = e.kustoms.reads
	}
	return Seen{reads.seen(types.NamespacedName{Namespace: owner.Namespace, Name: owner.Name})}, nil
}

// seen are the revisions at which the delivery is done with its sources.
func (r *reads) seen(key types.NamespacedName) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	revisions := []string{}
	for _, source := range r.members[key] {
		if f := r.followed[source]; f != nil && !slices.Contains(revisions, f.at.snapshot.Revision.Commit) {
			revisions = append(revisions, f.at.snapshot.Revision.Commit)
		}
	}
	return revisions
}
