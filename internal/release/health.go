package release

import (
	"context"
	"fmt"
	"slices"

	"github.com/fluxcd/cli-utils/pkg/kstatus/polling/engine"
	"github.com/fluxcd/cli-utils/pkg/kstatus/polling/statusreaders"
	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"helm.sh/helm/v4/pkg/kube"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fairway-cd/fairway/internal/core"
)

// Health judges objects of some kinds in place of Helm, when an action waits
// for them.
type Health struct {
	Kinds []schema.GroupKind
	Of    func(*unstructured.Unstructured) (core.Health, string)
}

// waits are the options of an action's waits: they end with ctx, and judge by
// the options' rules.
func (r *Release) waits(ctx context.Context, o Options) ([]kube.WaitOption, error) {
	options := waitWith(ctx)
	if o.Health == nil || len(o.Health.Kinds) == 0 {
		return options, nil
	}
	mapper, err := r.id.ToRESTMapper()
	if err != nil {
		return nil, fmt.Errorf("prepare the discovery of kinds: %w", err)
	}
	return append(options, kube.WithKStatusReaders(&reader{statusreaders.NewGenericStatusReader(mapper, o.Health.status), o.Health.Kinds})), nil
}

// reader reads the health of some kinds only.
type reader struct {
	engine.StatusReader
	kinds []schema.GroupKind
}

// Supports implements engine.StatusReader.
func (r *reader) Supports(gk schema.GroupKind) bool { return slices.Contains(r.kinds, gk) }

// status is the health in Helm's words.
func (h *Health) status(obj *unstructured.Unstructured) (*status.Result, error) {
	health, message := h.Of(obj)
	switch health {
	case core.Healthy:
		return &status.Result{Status: status.CurrentStatus, Message: message}, nil
	case core.Degraded:
		return &status.Result{Status: status.FailedStatus, Message: message}, nil
	}
	return &status.Result{Status: status.InProgressStatus, Message: message}, nil
}
