package controller

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/release"
	"github.com/fairway-cd/fairway/internal/render"
)

// made is how a target came about.
type made struct {
	// inputs is the SHA-256 of all that it was rendered from: what was asked for,
	// and what was read of the sources, with its hashes.
	inputs [32]byte
	at     time.Time
	took   time.Duration
}

// inputsOf is the digest of what was asked for and of what each source was read
// for.
func inputsOf(params string, inputs [][]render.Input) (sum [32]byte) {
	// digest is a SHA-256 in hexadecimal.
	_, _ = hex.Decode(sum[:], []byte(digest([]any{params, inputs})))
	return sum
}

// inputsName is the digest as the status has it.
func (m *made) inputsName() string { return "sha256:" + hex.EncodeToString(m.inputs[:]) }

// steps is how long each step of a delivery took. What a process has done that
// died before the end is not in it.
type steps struct{ render, apply, wait time.Duration }

// all is the whole of it but for rendering, which may have been done before.
func (s steps) all() time.Duration { return s.apply + s.wait }

func (s steps) String() string {
	return fmt.Sprintf("rendered in %s, applied in %s, waited for %s", exact(s.render), exact(s.apply), exact(s.wait))
}

// exact is a duration as a status has it.
func exact(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(10 * time.Millisecond)
}

// worked adds an apply to what a wait knows of the time that was spent.
func (w *waiting) worked(before *waiting, took time.Duration) {
	if before == nil {
		w.first, w.applying = took, took
		return
	}
	w.first, w.applying = before.first, before.applying+took
}

// stepsOf is how long the steps took of a delivery that has ended with an apply
// that took so long, after it had waited, or not.
func stepsOf(t *target, w *waiting, last time.Duration) steps {
	s := steps{render: t.made.took, apply: last}
	if w != nil {
		s.apply += w.applying
		s.wait = max(0, time.Since(w.since)-(s.apply-w.first))
	}
	return s
}

// delivered is what the status of an Application says of a sync that has
// brought all of t.
func delivered(t *target, s steps) *argo.Delivered {
	d := &argo.Delivered{
		Inputs: t.made.inputsName(), Objects: "sha256:" + t.digest,
		RenderedAt: metav1.NewTime(t.made.at), AppliedAt: metav1.Now(),
		Took: argo.DeliverySteps{
			Render: metav1.Duration{Duration: exact(s.render)}, Apply: metav1.Duration{Duration: exact(s.apply)}, Wait: metav1.Duration{Duration: exact(s.wait)},
		},
	}
	if d.Revision = t.revision(); d.Revision == "" {
		d.Revisions = t.commits()
	}
	return d
}

// metadata is what the history of a Kustomization says of a reconciliation.
func (t *target) metadata(revision string, s steps) map[string]string {
	return map[string]string{
		"revision": revision, "inputs": t.made.inputsName(), "renderedAt": t.made.at.UTC().Format(time.RFC3339),
		"render": exact(s.render).String(), "apply": exact(s.apply).String(), "wait": exact(s.wait).String(),
	}
}

// timed measures rendering.
func timed(render release.Render, took *time.Duration) release.Render {
	return func(ctx context.Context, asked release.RenderRequest) (*release.Rendered, error) {
		began := time.Now()
		defer func() { *took = time.Since(began) }()
		return render(ctx, asked)
	}
}

// noteDelivered says in a condition what was released, from what, and how long
// that took: a HelmRelease's status has no better place. Helm applies and waits
// in one.
func (h *helmReleaseRun) noteDelivered(began time.Time, rendering time.Duration) {
	took := steps{render: rendering, apply: time.Since(began) - rendering}
	h.stats.measure(helmv2.HelmReleaseKind, took)
	h.set("Delivered", metav1.ConditionTrue, "Delivered", fmt.Sprintf("chart %s@%s, inputs sha256:%s: rendered in %s, applied and waited for in %s, done at %s",
		h.chart.name, h.chart.version, h.source, exact(took.render), exact(took.apply), time.Now().UTC().Format(time.RFC3339)))
}
