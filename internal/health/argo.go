package health

import (
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fairway-cd/fairway/internal/core"
)

// builtin is one of Argo CD's health checks. An error makes the health Unknown.
type builtin func(obj *unstructured.Unstructured) (core.Health, string, error)

// argoBuiltin returns Argo CD's rule for a built-in kind, or nil. The rules and
// their words are those of gitops-engine's pkg/health and of Argo CD's
// resource_customizations for the kinds of Kubernetes itself.
func argoBuiltin(gvk schema.GroupVersionKind) builtin {
	switch gvk.GroupKind() {
	case schema.GroupKind{Group: "apps", Kind: "Deployment"}:
		return deployment
	case schema.GroupKind{Group: "apps", Kind: "StatefulSet"}:
		return statefulSet
	case schema.GroupKind{Group: "apps", Kind: "ReplicaSet"}:
		return replicaSet
	case schema.GroupKind{Group: "apps", Kind: "DaemonSet"}:
		return daemonSet
	case schema.GroupKind{Kind: "Pod"}:
		return pod
	case schema.GroupKind{Kind: "Service"}:
		return service
	case schema.GroupKind{Kind: "PersistentVolumeClaim"}:
		return claim
	case schema.GroupKind{Group: "networking.k8s.io", Kind: "Ingress"},
		schema.GroupKind{Group: "extensions", Kind: "Ingress"}:
		return ingress
	case schema.GroupKind{Group: "batch", Kind: "Job"}:
		return job
	case schema.GroupKind{Group: "batch", Kind: "CronJob"}:
		return cronJob
	case schema.GroupKind{Group: "autoscaling", Kind: "HorizontalPodAutoscaler"}:
		return autoscaler
	case schema.GroupKind{Group: "apiregistration.k8s.io", Kind: "APIService"}:
		return apiService
	case schema.GroupKind{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}:
		return definition
	case schema.GroupKind{Group: "policy", Kind: "PodDisruptionBudget"}:
		return disruptionBudget
	}
	return nil
}

// into converts obj to its type.
func into(obj *unstructured.Unstructured, typed any) error {
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, typed); err != nil {
		return fmt.Errorf("failed to convert unstructured %s to typed: %w", obj.GetKind(), err)
	}
	return nil
}

func service(obj *unstructured.Unstructured) (core.Health, string, error) {
	kind, _, _ := unstructured.NestedString(obj.Object, "spec", "type")
	if kind == string(corev1.ServiceTypeLoadBalancer) {
		return ingress(obj)
	}
	return core.Healthy, "", nil
}

// ingress is for what waits for a load balancer.
func ingress(obj *unstructured.Unstructured) (core.Health, string, error) {
	points, _, _ := unstructured.NestedSlice(obj.Object, "status", "loadBalancer", "ingress")
	if len(points) > 0 {
		return core.Healthy, "", nil
	}
	return core.Progressing, "", nil
}

func claim(obj *unstructured.Unstructured) (core.Health, string, error) {
	phase, _, _ := unstructured.NestedString(obj.Object, "status", "phase")
	switch corev1.PersistentVolumeClaimPhase(phase) {
	case corev1.ClaimLost:
		return core.Degraded, "", nil
	case corev1.ClaimPending:
		return core.Progressing, "", nil
	case corev1.ClaimBound:
		return core.Healthy, "", nil
	}
	return core.Unknown, "", nil
}

// condition is what all kinds' conditions have.
type condition struct {
	Type    string `json:"type"`
	Status  string `json:"status"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

func conditions(obj *unstructured.Unstructured) []condition {
	var s struct {
		Status struct {
			Conditions []condition `json:"conditions"`
		} `json:"status"`
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, &s); err != nil {
		return nil
	}
	return s.Status.Conditions
}

func apiService(obj *unstructured.Unstructured) (core.Health, string, error) {
	for _, c := range conditions(obj) {
		if c.Type != "Available" {
			continue
		}
		msg := fmt.Sprintf("%s: %s", c.Reason, c.Message)
		if c.Status == "True" {
			return core.Healthy, msg, nil
		}
		return core.Progressing, msg, nil
	}
	return core.Progressing, "Waiting to be processed", nil
}

// autoscaler reads the conditions of autoscaling/v2, or those that v1 keeps in
// an annotation.
func autoscaler(obj *unstructured.Unstructured) (core.Health, string, error) {
	cs := conditions(obj)
	if obj.GroupVersionKind().Version == "v1" {
		cs = nil
		if s, ok := obj.GetAnnotations()["autoscaling.alpha.kubernetes.io/conditions"]; ok {
			if err := json.Unmarshal([]byte(s), &cs); err != nil {
				return "", "", fmt.Errorf("failed to convert conditions annotation to typed: %w", err)
			}
		}
	}
	degraded := []string{
		"AbleToScale/FailedGetScale", "AbleToScale/FailedUpdateScale",
		"ScalingActive/FailedGetResourceMetric", "ScalingActive/FailedGetObjectMetric",
		"ScalingActive/FailedGetPodsMetric", "ScalingActive/FailedGetExternalMetric",
		"ScalingActive/FailedComputeMetricsReplicas", "ScalingActive/InvalidSelector",
	}
	// One that could scale but has no metrics says so in a later condition.
	for _, c := range cs {
		if slices.Contains(degraded, c.Type+"/"+c.Reason) {
			return core.Degraded, c.Message, nil
		}
	}
	for _, c := range cs {
		if (c.Type == "AbleToScale" || c.Type == "ScalingLimited") && c.Status == "True" {
			return core.Healthy, c.Message, nil
		}
	}
	return core.Progressing, "Waiting to Autoscale", nil
}
