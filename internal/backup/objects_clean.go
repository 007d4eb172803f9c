package backup

import (
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// clean is the object as it can be made in another cluster. The status stays
// where it is to come back, for kinds that have it as a field like others.
func clean(o *unstructured.Unstructured, status map[string]any) *unstructured.Unstructured {
	out := o.DeepCopy()
	for _, field := range []string{"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields",
		"ownerReferences", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds"} {
		unstructured.RemoveNestedField(out.Object, "metadata", field)
	}
	if status == nil {
		unstructured.RemoveNestedField(out.Object, "status")
	}
	switch out.GroupVersionKind().GroupKind().String() {
	case "Service":
		// A new cluster gives new addresses.
		if ip, _, _ := unstructured.NestedString(out.Object, "spec", "clusterIP"); ip != "None" {
			unstructured.RemoveNestedField(out.Object, "spec", "clusterIP")
			unstructured.RemoveNestedField(out.Object, "spec", "clusterIPs")
		}
	case "PersistentVolumeClaim":
		// Its volume was on the machine.
		unstructured.RemoveNestedField(out.Object, "spec", "volumeName")
		dropAnnotations(out, "pv.kubernetes.io/", "volume.kubernetes.io/selected-node", "volume.beta.kubernetes.io/storage-provisioner")
	case "Pod":
		unstructured.RemoveNestedField(out.Object, "spec", "nodeName")
	case "Job.batch":
		cleanJob(out)
	case "ServiceAccount":
		unstructured.RemoveNestedField(out.Object, "secrets")
	}
	return out
}

func dropAnnotations(o *unstructured.Unstructured, prefixes ...string) {
	annotations := o.GetAnnotations()
	for key := range annotations {
		for _, p := range prefixes {
			if strings.HasPrefix(key, p) {
				delete(annotations, key)
			}
		}
	}
	o.SetAnnotations(annotations)
}

// cleanJob takes away what binds a Job to pods by its UID. One that has ended
// is made suspended, so that it does not run before its status says so.
func cleanJob(o *unstructured.Unstructured) {
	if manual, _, _ := unstructured.NestedBool(o.Object, "spec", "manualSelector"); !manual {
		unstructured.RemoveNestedField(o.Object, "spec", "selector")
		for _, at := range [][]string{{"metadata", "labels"}, {"spec", "template", "metadata", "labels"}} {
			for _, label := range []string{"controller-uid", "batch.kubernetes.io/controller-uid", "job-name", "batch.kubernetes.io/job-name"} {
				unstructured.RemoveNestedField(o.Object, append(at[:len(at):len(at)], label)...)
			}
		}
	}
	if finishedJob(o) {
		_ = unstructured.SetNestedField(o.Object, true, "spec", "suspend")
	}
}

// finishedJob says that the object is a Job that has ended.
func finishedJob(o *unstructured.Unstructured) bool {
	if o.GroupVersionKind().GroupKind().String() != "Job.batch" {
		return false
	}
	conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, one := range conditions {
		c, _ := one.(map[string]any)
		if (c["type"] == "Complete" || c["type"] == "Failed") && c["status"] == "True" {
			return true
		}
	}
	return false
}

// resumed says that a Job was made suspended though it was not.
func resumed(o *unstructured.Unstructured) bool {
	suspended, _, _ := unstructured.NestedBool(o.Object, "spec", "suspend")
	return finishedJob(o) && !suspended
}

// observed is the status as of the generation that the object has now: a new
// cluster counts anew, and what had been observed still is. What had not been
// is of none.
func observed(status map[string]any, was, is int64) map[string]any {
	const field = "observedGeneration"
	out := make(map[string]any, len(status))
	for key, value := range status {
		out[key] = value
		if n, ok := value.(int64); ok && key == field {
			if n == was {
				out[key] = is
			} else {
				out[key] = int64(0)
			}
		}
		if below, ok := value.(map[string]any); ok {
			out[key] = observed(below, was, is)
		}
		list, ok := value.([]any)
		if !ok {
			continue
		}
		items := make([]any, len(list))
		for i, item := range list {
			items[i] = item
			if below, ok := item.(map[string]any); ok {
				items[i] = observed(below, was, is)
			}
		}
		out[key] = items
	}
	return out
}
