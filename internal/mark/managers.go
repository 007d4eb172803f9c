package mark

import (
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
)

// entry is one of an object's managed fields, read without converting the
// others.
type entry struct {
	manager, operation, subresource, time string
	fields                                map[string]any
}

func entries(obj *unstructured.Unstructured) []entry {
	list, _, _ := unstructured.NestedFieldNoCopy(obj.Object, "metadata", "managedFields")
	items, _ := list.([]any)
	es := make([]entry, 0, len(items))
	for _, item := range items {
		m, ok := item.(map[string]any)
		if !ok {
			continue
		}
		var e entry
		e.manager, _ = m["manager"].(string)
		e.operation, _ = m["operation"].(string)
		e.subresource, _ = m["subresource"].(string)
		e.time, _ = m["time"].(string)
		e.fields, _ = m["fieldsV1"].(map[string]any)
		es = append(es, e)
	}
	return es
}

// LastManager is the field manager, other than ours, that last wrote the
// object's specification or metadata; "" where there is none. Who only removed
// something owns nothing, and is not to be found.
func LastManager(obj *unstructured.Unstructured) string {
	var last, at string
	for _, e := range entries(obj) {
		// RFC 3339 in UTC sorts as text. It is as exact as a second.
		if e.manager != FieldManager && e.subresource != "status" && e.time >= at {
			last, at = e.manager, e.time
		}
	}
	return last
}

// Predecessor says whether fields that manager owns are taken over by an
// apply of the dialect, so that what is no longer in Git goes away with it.
//
// Both take over from those who delivered the object before: kubectl apply
// (client-side, server-side, and what it found: before-first-apply), Argo CD,
// Flux and Helm. Flux moreover undoes every change made with kubectl, edits
// and patches included, unless it was told another field manager
// (kustomize-controller: all managers whose name begins with "kubectl"); Argo
// CD leaves fields alone that were never in Git.
func Predecessor(dialect core.Dialect, manager, operation, subresource string) bool {
	if subresource != "" {
		return false
	}
	switch manager {
	case "kubectl-client-side-apply", "before-first-apply",
		"argocd-controller", "argocd-application-controller",
		"kustomize-controller", "helm-controller", "helm", "Helm":
		return true
	case "kubectl":
		return operation == "Apply" || dialect == core.Flux
	}
	return dialect == core.Flux && strings.HasPrefix(manager, "kubectl")
}

// HasPredecessor returns the manager whose fields an apply of the dialect
// would take over, and "" where there is none.
func HasPredecessor(dialect core.Dialect, obj *unstructured.Unstructured) string {
	for _, e := range entries(obj) {
		if e.manager != FieldManager && Predecessor(dialect, e.manager, e.operation, e.subresource) {
			return e.manager
		}
	}
	return ""
}

// FluxSetting returns the value of kustomize.toolkit.fluxcd.io/NAME, which
// Flux reads from annotations and from labels.
func FluxSetting(obj *unstructured.Unstructured, name string) string {
	key := string(core.Flux) + "/" + name
	if v, ok := obj.GetAnnotations()[key]; ok {
		return v
	}
	return obj.GetLabels()[key]
}
