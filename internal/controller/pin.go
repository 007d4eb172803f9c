package controller

import (
	"context"
	"fmt"
	"strings"
	"time"

	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-cd/fairway/internal/core"
)

// pin holds a delivery at a revision, whatever is committed. Revision is a
// commit, or a chart's digest; of several sources one for each, with commas
// between, of which an empty one leaves its source alone.
type pin struct{ Revision, Reason, By, At string }

// The annotations of a pin.
const (
	AnnotationPinnedRevision = core.Group + "/pinned-revision"
	AnnotationPinnedReason   = core.Group + "/pinned-reason"
	AnnotationPinnedBy       = core.Group + "/pinned-by"
	AnnotationPinnedAt       = core.Group + "/pinned-at"
)

// readPin returns the pin that the annotations hold.
func readPin(annotations map[string]string) pin {
	return pin{
		Revision: annotations[AnnotationPinnedRevision],
		Reason:   annotations[AnnotationPinnedReason],
		By:       annotations[AnnotationPinnedBy],
		At:       annotations[AnnotationPinnedAt],
	}
}

// String says it for people.
func (p pin) String() string {
	s := "pinned to " + p.Revision
	if list := splitRevisions(p.Revision); len(list) > 1 {
		var at []string
		for i, revision := range list {
			if revision != "" {
				at = append(at, fmt.Sprintf("%s (source %d)", revision, i+1))
			}
		}
		s = "pinned to " + strings.Join(at, ", ")
	}
	if p.By != "" {
		s += " by " + p.By
	}
	if p.At != "" {
		s += " at " + p.At
	}
	if p.Reason != "" {
		s += ": " + p.Reason
	}
	return s
}

// splitRevisions reads the revisions of several sources.
func splitRevisions(text string) []string {
	list := strings.Split(text, ",")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list
}

func joinRevisions(list []string) string { return strings.Join(list, ",") }

// revisionsAt are the revisions that text means, one a source; "" leaves a
// source to follow its own. A single one is that of the first source's
// repository, however many sources read it. The error is a *revisionsError.
func (d *delivery) revisionsAt(text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	list := splitRevisions(text)
	if len(list) == len(d.sources) {
		return list, nil
	}
	if len(list) > 1 {
		return nil, &revisionsError{Revisions: text, Have: len(list), Want: len(d.sources)}
	}
	revisions := make([]string, len(d.sources))
	first := d.sources[0].from
	for i, s := range d.sources {
		if s.from.URL == first.URL && s.from.Chart == first.Chart {
			revisions[i] = list[0]
		}
	}
	return revisions, nil
}

// revisionsError says that there are not as many revisions as sources.
type revisionsError struct {
	Revisions  string
	Have, Want int
}

func (e *revisionsError) Error() string {
	return fmt.Sprintf("%q are %d revisions, but there are %d sources", e.Revisions, e.Have, e.Want)
}

func (e *revisionsError) Hint() string {
	return "give one revision a source, with commas between; an empty one follows the source's own"
}

// pinnedError says that another revision cannot be synced.
type pinnedError struct{ pin pin }

func (e *pinnedError) Error() string { return "cannot sync another revision: " + e.pin.String() }

func (e *pinnedError) Hint() string { return "let it go first: fairway app unpin NAME" }

// Pin holds a delivery at a revision; an empty one lets it go.
func (e *Engine) Pin(ctx context.Context, owner core.Owner, revision, reason, by string) error {
	return e.setPin(ctx, owner, func(pin) (pin, bool) { return newPin(revision, reason, by), true })
}

func newPin(revision, reason, by string) pin {
	return pin{Revision: revision, Reason: reason, By: by, At: time.Now().UTC().Format(time.RFC3339)}
}

// setPin replaces the pin by what decide returns for the one that is there;
// false leaves it. A change that somebody else makes meanwhile is not lost.
func (e *Engine) setPin(ctx context.Context, owner core.Owner, decide func(pin) (pin, bool)) error {
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		object, err := e.object(ctx, owner)
		if err != nil {
			return err
		}
		annotations := object.GetAnnotations()
		if annotations == nil {
			annotations = map[string]string{}
		}
		p, change := decide(readPin(annotations))
		if !change {
			return nil
		}
		for key, value := range map[string]string{
			AnnotationPinnedRevision: p.Revision, AnnotationPinnedReason: p.Reason,
			AnnotationPinnedBy: p.By, AnnotationPinnedAt: p.At,
		} {
			annotations[key] = value
			if p.Revision == "" || value == "" {
				delete(annotations, key)
			}
		}
		changed := object.DeepCopy()
		changed.SetAnnotations(annotations)
		return e.client.Patch(ctx, changed, client.MergeFromWithOptions(object, client.MergeFromWithOptimisticLock{}))
	})
	if err != nil {
		return fmt.Errorf("pin %s: %w", owner, err)
	}
	return nil
}
