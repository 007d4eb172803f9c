package backup

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fairway-cd/fairway/api"
	"github.com/fairway-cd/fairway/internal/mark"
)

// neverKept are kinds that say how a cluster is now, or are bound to its
// machines.
func neverKept(gr schema.GroupResource) bool {
	switch gr.String() {
	case "events", "events.events.k8s.io", "nodes", "bindings", "componentstatuses",
		// What is on a volume is not in a backup: a claim gets a new one.
		"persistentvolumes", "volumeattachments.storage.k8s.io", "csinodes.storage.k8s.io", "csistoragecapacities.storage.k8s.io",
		"leases.coordination.k8s.io", "leasecandidates.coordination.k8s.io",
		"certificatesigningrequests.certificates.k8s.io", "ipaddresses.networking.k8s.io",
		"storageversions.internal.apiserver.k8s.io", "storageversionmigrations.storagemigration.k8s.io",
		"resourceslices.resource.k8s.io", "resourceclaims.resource.k8s.io":
		return true
	}
	return false
}

// madeByItself says that a new cluster, or `up`, or the object's owner makes
// the object, or that it is about to go.
func madeByItself(gr schema.GroupResource, o *unstructured.Unstructured) bool {
	if o.GetDeletionTimestamp() != nil {
		return true
	}
	if metav1.GetControllerOf(o) != nil && builtInChild(gr) {
		return true
	}
	if o.GetLabels()[mark.LabelManaged] == "true" {
		return finishedPod(gr, o)
	}
	return bootstrap(gr, o) || madeByUp(gr, o)
}

// builtInChild are the kinds that Kubernetes' controllers make of others.
func builtInChild(gr schema.GroupResource) bool {
	switch gr.String() {
	case "pods", "replicasets.apps", "controllerrevisions.apps", "jobs.batch", "endpointslices.discovery.k8s.io", "endpoints":
		return true
	}
	return false
}

func finishedPod(gr schema.GroupResource, o *unstructured.Unstructured) bool {
	phase, _, _ := unstructured.NestedString(o.Object, "status", "phase")
	return gr.String() == "pods" && (phase == "Succeeded" || phase == "Failed")
}

// bootstrap recognises what Kubernetes makes by itself.
func bootstrap(gr schema.GroupResource, o *unstructured.Unstructured) bool {
	name, labels, annotations := o.GetName(), o.GetLabels(), o.GetAnnotations()
	system := o.GetNamespace() == "kube-system"
	switch gr.String() {
	case "pods":
		_, mirror := annotations["kubernetes.io/config.mirror"]
		return mirror || finishedPod(gr, o)
	case "services":
		return o.GetNamespace() == "default" && name == "kubernetes"
	case "endpoints":
		return true
	case "endpointslices.discovery.k8s.io":
		return name == "kubernetes" || strings.HasSuffix(labels["endpointslice.kubernetes.io/managed-by"], ".k8s.io")
	case "namespaces":
		return slices.Contains([]string{"default", "kube-system", "kube-public", "kube-node-lease"}, name) &&
			len(labels) <= 1 && len(annotations) == 0
	case "serviceaccounts":
		// Those of the control plane's own controllers, and each namespace's.
		return name == "default" && len(labels) == 0 && len(annotations) == 0 && o.Object["imagePullSecrets"] == nil ||
			system && len(labels) == 0
	case "configmaps":
		return name == "kube-root-ca.crt" || system && (name == "extension-apiserver-authentication" ||
			strings.HasPrefix(name, "kube-apiserver-"))
	case "secrets":
		return secretType(o) == "kubernetes.io/service-account-token"
	case "servicecidrs.networking.k8s.io":
		return name == "kubernetes"
	case "priorityclasses.scheduling.k8s.io":
		return strings.HasPrefix(name, "system-")
	case "apiservices.apiregistration.k8s.io":
		return labels["kube-aggregator.kubernetes.io/automanaged"] != ""
	case "flowschemas.flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io":
		return annotations["apf.kubernetes.io/autoupdate-spec"] == "true"
	}
	return labels["kubernetes.io/bootstrapping"] == "rbac-defaults"
}

func secretType(o *unstructured.Unstructured) string {
	t, _, _ := unstructured.NestedString(o.Object, "type")
	return t
}

// madeByUp recognises what each start of ours installs.
func madeByUp(gr schema.GroupResource, o *unstructured.Unstructured) bool {
	switch gr.Group {
	case "apiextensions.k8s.io":
		return o.GetLabels()[api.LabelManagedBy] == "fairway"
	case "rbac.authorization.k8s.io", "admissionregistration.k8s.io":
		return o.GetNamespace() == "" && strings.HasPrefix(o.GetName(), "fairway-") && onlyOurs(o)
	case "":
		return gr.Resource == "serviceaccounts" && o.GetNamespace() == "fairway-system" && onlyOurs(o) && len(o.GetLabels()) == 0
	}
	return false
}

// onlyOurs says that nobody but us has written the object.
func onlyOurs(o *unstructured.Unstructured) bool {
	for _, f := range o.GetManagedFields() {
		if f.Manager != mark.FieldManager && f.Subresource == "" {
			return false
		}
	}
	return true
}
