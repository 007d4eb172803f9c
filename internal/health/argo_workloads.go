package health

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
)

func deployment(obj *unstructured.Unstructured) (core.Health, string, error) {
	var d appsv1.Deployment
	if err := into(obj, &d); err != nil {
		return "", "", err
	}
	s := d.Status
	switch {
	case d.Spec.Paused:
		return core.Suspended, "Deployment is paused", nil
	case d.Generation > s.ObservedGeneration:
		return core.Progressing, "Waiting for rollout to finish: observed deployment generation less than desired generation", nil
	}
	for _, c := range s.Conditions {
		if c.Type == appsv1.DeploymentProgressing && c.Reason == "ProgressDeadlineExceeded" {
			return core.Degraded, fmt.Sprintf("Deployment %q exceeded its progress deadline", d.Name), nil
		}
	}
	switch {
	case d.Spec.Replicas != nil && s.UpdatedReplicas < *d.Spec.Replicas:
		return core.Progressing, fmt.Sprintf("Waiting for rollout to finish: %d out of %d new replicas have been updated...", s.UpdatedReplicas, *d.Spec.Replicas), nil
	case s.Replicas > s.UpdatedReplicas:
		return core.Progressing, fmt.Sprintf("Waiting for rollout to finish: %d old replicas are pending termination...", s.Replicas-s.UpdatedReplicas), nil
	case s.AvailableReplicas < s.UpdatedReplicas:
		return core.Progressing, fmt.Sprintf("Waiting for rollout to finish: %d of %d updated replicas are available...", s.AvailableReplicas, s.UpdatedReplicas), nil
	}
	return core.Healthy, "", nil
}

func statefulSet(obj *unstructured.Unstructured) (core.Health, string, error) {
	var set appsv1.StatefulSet
	if err := into(obj, &set); err != nil {
		return "", "", err
	}
	spec, s := set.Spec, set.Status
	if s.ObservedGeneration == 0 || set.Generation > s.ObservedGeneration {
		return core.Progressing, "Waiting for statefulset spec update to be observed...", nil
	}
	if spec.Replicas != nil && s.ReadyReplicas < *spec.Replicas {
		return core.Progressing, fmt.Sprintf("Waiting for %d pods to be ready...", *spec.Replicas-s.ReadyReplicas), nil
	}
	if u := spec.UpdateStrategy; u.Type == appsv1.RollingUpdateStatefulSetStrategyType && u.RollingUpdate != nil {
		if spec.Replicas != nil && u.RollingUpdate.Partition != nil {
			if want := *spec.Replicas - *u.RollingUpdate.Partition; s.UpdatedReplicas < want {
				return core.Progressing, fmt.Sprintf("Waiting for partitioned roll out to finish: %d out of %d new pods have been updated...", s.UpdatedReplicas, want), nil
			}
		}
		return core.Healthy, fmt.Sprintf("partitioned roll out complete: %d new pods have been updated...", s.UpdatedReplicas), nil
	}
	if spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType {
		return core.Healthy, fmt.Sprintf("statefulset has %d ready pods", s.ReadyReplicas), nil
	}
	if s.UpdateRevision != s.CurrentRevision {
		return core.Progressing, fmt.Sprintf("waiting for statefulset rolling update to complete %d pods at revision %s...", s.UpdatedReplicas, s.UpdateRevision), nil
	}
	return core.Healthy, fmt.Sprintf("statefulset rolling update complete %d pods at revision %s...", s.CurrentReplicas, s.CurrentRevision), nil
}

func replicaSet(obj *unstructured.Unstructured) (core.Health, string, error) {
	var r appsv1.ReplicaSet
	if err := into(obj, &r); err != nil {
		return "", "", err
	}
	if r.Generation > r.Status.ObservedGeneration {
		return core.Progressing, "Waiting for rollout to finish: observed replica set generation less than desired generation", nil
	}
	for _, c := range r.Status.Conditions {
		if c.Type == appsv1.ReplicaSetReplicaFailure && c.Status == corev1.ConditionTrue {
			return core.Degraded, c.Message, nil
		}
	}
	if r.Spec.Replicas != nil && r.Status.AvailableReplicas < *r.Spec.Replicas {
		return core.Progressing, fmt.Sprintf("Waiting for rollout to finish: %d out of %d new replicas are available...", r.Status.AvailableReplicas, *r.Spec.Replicas), nil
	}
	return core.Healthy, "", nil
}

func daemonSet(obj *unstructured.Unstructured) (core.Health, string, error) {
	var d appsv1.DaemonSet
	if err := into(obj, &d); err != nil {
		return "", "", err
	}
	s := d.Status
	switch {
	case d.Generation > s.ObservedGeneration:
		return core.Progressing, "Waiting for rollout to finish: observed daemon set generation less than desired generation", nil
	case d.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType:
		return core.Healthy, fmt.Sprintf("daemon set %d out of %d new pods have been updated", s.UpdatedNumberScheduled, s.DesiredNumberScheduled), nil
	case s.UpdatedNumberScheduled < s.DesiredNumberScheduled:
		return core.Progressing, fmt.Sprintf("Waiting for daemon set %q rollout to finish: %d out of %d new pods have been updated...", d.Name, s.UpdatedNumberScheduled, s.DesiredNumberScheduled), nil
	case s.NumberAvailable < s.DesiredNumberScheduled:
		return core.Progressing, fmt.Sprintf("Waiting for daemon set %q rollout to finish: %d of %d updated pods are available...", d.Name, s.NumberAvailable, s.DesiredNumberScheduled), nil
	}
	return core.Healthy, "", nil
}
