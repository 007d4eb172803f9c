package identity

import (
	"context"
	"fmt"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	rbacac "k8s.io/client-go/applyconfigurations/rbac/v1"
	"k8s.io/client-go/kubernetes"
)

// EnsureSealers lets everybody who is known to the cluster ask the Service for
// what kubeseal asks, through the API server's proxy, as sealed-secrets' own
// manifests do (sealed-secrets-service-proxier). It may be called any number of
// times.
func EnsureSealers(ctx context.Context, client kubernetes.Interface, namespace, service string) error {
	const name = "fairway-kubeseal"
	options := metav1.ApplyOptions{FieldManager: fieldManager, Force: true}
	role := rbacac.Role(name, namespace).WithRules(
		policyRule(rbacv1.PolicyRule{
			APIGroups: []string{""}, Resources: []string{"services"}, ResourceNames: []string{service}, Verbs: []string{"get"},
		}),
		policyRule(rbacv1.PolicyRule{
			APIGroups: []string{""}, Resources: []string{"services/proxy"},
			ResourceNames: []string{"http:" + service + ":", "http:" + service + ":http", service},
			Verbs:         []string{"get", "create"},
		}))
	if _, err := client.RbacV1().Roles(namespace).Apply(ctx, role, options); err != nil {
		return fmt.Errorf("applying Role %s/%s: %w", namespace, name, err)
	}
	binding := rbacac.RoleBinding(name, namespace).
		WithRoleRef(rbacac.RoleRef().WithAPIGroup(rbacv1.GroupName).WithKind("Role").WithName(name)).
		WithSubjects(rbacac.Subject().WithAPIGroup(rbacv1.GroupName).WithKind(rbacv1.GroupKind).WithName("system:authenticated"))
	if _, err := client.RbacV1().RoleBindings(namespace).Apply(ctx, binding, options); err != nil {
		return fmt.Errorf("applying RoleBinding %s/%s: %w", namespace, name, err)
	}
	return nil
}
