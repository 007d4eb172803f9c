package backup

import (
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// rank is when an object comes back: the lower ones first.
func rank(gk schema.GroupKind) int {
	switch gk.String() {
	case "Namespace":
		return 0
	case "CustomResourceDefinition.apiextensions.k8s.io":
		return 1
	case "ClusterRole.rbac.authorization.k8s.io", "Role.rbac.authorization.k8s.io", "ServiceAccount",
		"PriorityClass.scheduling.k8s.io", "StorageClass.storage.k8s.io", "RuntimeClass.node.k8s.io", "IngressClass.networking.k8s.io":
		return 2
	case "ClusterRoleBinding.rbac.authorization.k8s.io", "RoleBinding.rbac.authorization.k8s.io", "Secret":
		return 3
	case "ConfigMap", "Service", "PersistentVolumeClaim", "LimitRange":
		return 4
	case "Pod":
		return 6
	case "ResourceQuota", "APIService.apiregistration.k8s.io":
		return 9
	}
	switch {
	case delivers(gk.Group):
		return 8
	case gk.Group == "admissionregistration.k8s.io":
		return 9 // nothing that answers them may be there before
	case gk.Group == "apps" || gk.Group == "batch":
		return 6
	case gk.Group == "autoscaling" || gk.Group == "policy" || gk.Group == "":
		return 5
	}
	return 7
}

// lastRank is the highest that rank returns.
const lastRank = 9

// delivers says that the group's kinds are of deliveries and their sources.
func delivers(group string) bool {
	return group == "argoproj.io" || group == "fairway-cd.io" || strings.HasSuffix(group, ".toolkit.fluxcd.io")
}
