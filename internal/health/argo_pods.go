package health

import (
	"fmt"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
)

// pod tells pods that stay from those that end: a hook's pod that cannot pull
// its image yet is not failed, because it would run behind our back once it
// can.
func pod(obj *unstructured.Unstructured) (core.Health, string, error) {
	var p corev1.Pod
	if err := into(obj, &p); err != nil {
		return "", "", err
	}
	stays := p.Spec.RestartPolicy == corev1.RestartPolicyAlways
	if stays {
		if msgs := stuck(p.Status.ContainerStatuses); len(msgs) > 0 {
			return core.Degraded, strings.Join(msgs, ", "), nil
		}
	}
	switch p.Status.Phase {
	case corev1.PodPending:
		return core.Progressing, p.Status.Message, nil
	case corev1.PodSucceeded:
		return core.Healthy, p.Status.Message, nil
	case corev1.PodFailed:
		return core.Degraded, failure(&p), nil
	case corev1.PodRunning:
		if stays {
			return running(&p), p.Status.Message, nil
		}
		return core.Progressing, p.Status.Message, nil
	}
	return core.Unknown, p.Status.Message, nil
}

// stuck returns the messages of the containers that wait for something that
// will not come by waiting.
func stuck(containers []corev1.ContainerStatus) []string {
	var msgs []string
	for _, c := range containers {
		w := c.State.Waiting
		if w != nil && (strings.HasPrefix(w.Reason, "Err") || strings.HasSuffix(w.Reason, "Error") || strings.HasSuffix(w.Reason, "BackOff")) {
			msgs = append(msgs, w.Message)
		}
	}
	return msgs
}

func running(p *corev1.Pod) core.Health {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return core.Healthy
		}
	}
	for _, c := range p.Status.ContainerStatuses {
		if c.LastTerminationState.Terminated != nil {
			return core.Degraded
		}
	}
	return core.Progressing
}

func failure(p *corev1.Pod) string {
	if p.Status.Message != "" {
		return p.Status.Message
	}
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for _, c := range list {
			t := c.State.Terminated
			switch {
			case t == nil:
			case t.Message != "":
				return t.Message
			case t.Reason == "OOMKilled":
				return t.Reason
			case t.ExitCode != 0:
				return fmt.Sprintf("container %q failed with exit code %d", c.Name, t.ExitCode)
			}
		}
	}
	return ""
}

func job(obj *unstructured.Unstructured) (core.Health, string, error) {
	health, msg := core.Progressing, ""
	for _, c := range conditions(obj) {
		if c.Status != string(corev1.ConditionTrue) {
			continue
		}
		switch batchv1.JobConditionType(c.Type) {
		case batchv1.JobFailed:
			return core.Degraded, c.Message, nil
		case batchv1.JobComplete:
			health, msg = core.Healthy, c.Message
		case batchv1.JobSuspended:
			health, msg = core.Suspended, c.Message
		}
	}
	return health, msg, nil
}

func cronJob(obj *unstructured.Unstructured) (core.Health, string, error) {
	var c batchv1.CronJob
	if err := into(obj, &c); err != nil {
		return "", "", err
	}
	scheduled, succeeded := c.Status.LastScheduleTime, c.Status.LastSuccessfulTime
	switch {
	case c.Spec.Suspend != nil && *c.Spec.Suspend:
		// Not Suspended: that would make the whole delivery so, for a CronJob
		// that is off as its author wants it.
		return core.Healthy, "CronJob is Suspended", nil
	case scheduled == nil:
		return core.Healthy, "CronJob has not been scheduled yet", nil
	case succeeded == nil:
		return core.Healthy, "The CronJob never completed successfully. It may not be healthy", nil
	case len(c.Status.Active) > 0:
		return core.Healthy, "The job is running. Its last execution may not have been successful", nil
	case succeeded.Before(scheduled):
		return core.Degraded, "CronJob has not completed its last execution successfully", nil
	}
	return core.Healthy, "CronJob has completed its last execution successfully", nil
}

func disruptionBudget(obj *unstructured.Unstructured) (core.Health, string, error) {
	health, msg := core.Progressing, "Waiting for status"
	for _, c := range conditions(obj) {
		// Too few pods may be meant: https://github.com/argoproj/argo-cd/issues/20171.
		health, msg = core.Healthy, "PodDisruptionBudget has "+c.Reason
		if c.Status == "False" && c.Reason != "InsufficientPods" {
			return core.Degraded, msg, nil
		}
	}
	return health, msg, nil
}

func definition(obj *unstructured.Unstructured) (core.Health, string, error) {
	if obj.GetDeletionTimestamp() != nil {
		return core.Progressing, "CRD is terminating", nil
	}
	is := map[string]condition{}
	for _, c := range conditions(obj) {
		is[c.Type+"="+c.Status] = c
	}
	if len(is) == 0 {
		return core.Progressing, "Status conditions not found", nil
	}
	if c, ok := is["Terminating=True"]; ok {
		return core.Progressing, "CRD is terminating: " + c.Message, nil
	}
	if c, ok := is["NamesAccepted=False"]; ok {
		return core.Degraded, "CRD names have not been accepted: " + c.Message, nil
	}
	// Each new definition is that for a moment: https://github.com/argoproj/argo-cd/issues/26346.
	if is["Established=False"].Reason == "Installing" {
		return core.Progressing, "CRD is being installed", nil
	}
	if _, ok := is["Established=True"]; !ok {
		return core.Degraded, "CRD is not established", nil
	}
	if c, ok := is["NonStructuralSchema=True"]; ok {
		return core.Degraded, "Schema violations found: " + c.Message, nil
	}
	return core.Healthy, "CRD is healthy", nil
}
