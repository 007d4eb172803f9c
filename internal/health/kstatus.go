package health

import (
	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
)

// byStatus is kstatus, which Flux goes by: rules for the built-in kinds, and
// observedGeneration and conditions for all others.
func byStatus(obj *unstructured.Unstructured) (core.Health, string) {
	res, err := status.Compute(obj)
	if err != nil {
		return core.Unknown, err.Error()
	}
	switch res.Status {
	case status.CurrentStatus:
		return core.Healthy, res.Message
	case status.InProgressStatus, status.TerminatingStatus:
		return core.Progressing, res.Message
	case status.FailedStatus:
		return core.Degraded, res.Message
	case status.NotFoundStatus:
		return core.Missing, res.Message
	}
	return core.Unknown, res.Message
}
