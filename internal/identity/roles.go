package identity

import (
	"context"
	"fmt"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	rbacac "k8s.io/client-go/applyconfigurations/rbac/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/fairway-cd/fairway/internal/core"
)

// clusterRole is one of ours. Aggregated to view, edit or admin, it is part of
// what those roles give in a namespace.
type clusterRole struct {
	name      string
	aggregate []string
	rules     []rbacv1.PolicyRule
}

func ours(verbs ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{
		APIGroups: []string{core.Group},
		Resources: []string{core.ResourceRepositories, core.ResourceImages},
		Verbs:     verbs,
	}
}

func deliveries(verbs ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{
		APIGroups: []string{"argoproj.io", "source.toolkit.fluxcd.io", "kustomize.toolkit.fluxcd.io", "helm.toolkit.fluxcd.io"},
		Resources: []string{"*"},
		Verbs:     verbs,
	}
}

// clusterRoles are the roles of people. None of them may write an Application
// or a Kustomization: what those deploy is applied with the engine's
// permissions, which are wider than a namespace's.
func clusterRoles() []clusterRole {
	// Not of images: a reader of another namespace's manifests need not have more.
	read := []rbacv1.PolicyRule{{APIGroups: []string{core.Group}, Resources: []string{core.ResourceRepositories}, Verbs: []string{"get"}}}
	view := []rbacv1.PolicyRule{ours("get", "list", "watch"), deliveries("get", "list", "watch")}
	develop := slices.Concat(view, []rbacv1.PolicyRule{ours("create", "update", "patch")})
	administer := slices.Concat(develop, []rbacv1.PolicyRule{ours("delete", "deletecollection")})
	return []clusterRole{
		{readerRole, nil, read},
		{"fairway-viewer", []string{"view", "edit", "admin"}, view},
		{"fairway-developer", []string{"edit", "admin"}, develop},
		{"fairway-admin", []string{"admin"}, administer},
	}
}

// EnsureRoles installs the ClusterRoles fairway-reader, fairway-viewer,
// fairway-developer and fairway-admin, and thereby gives the cluster's own
// view, edit and admin their part in Fairway; and the admission policy that
// holds back from them what reaches beyond a namespace. It may be called any
// number of times.
func EnsureRoles(ctx context.Context, client kubernetes.Interface) error {
	for _, role := range clusterRoles() {
		labels := map[string]string{}
		for _, to := range role.aggregate {
			labels["rbac.authorization.k8s.io/aggregate-to-"+to] = "true"
		}
		if err := applyClusterRole(ctx, client, role.name, labels, role.rules); err != nil {
			return err
		}
	}
	if err := applyMirrorPolicy(ctx, client); err != nil {
		return err
	}
	return applyProjectRolesPolicy(ctx, client)
}

func applyClusterRole(ctx context.Context, client kubernetes.Interface, name string, labels map[string]string, rules []rbacv1.PolicyRule) error {
	role := rbacac.ClusterRole(name).WithLabels(labels)
	for _, rule := range rules {
		role.WithRules(policyRule(rule))
	}
	_, err := client.RbacV1().ClusterRoles().Apply(ctx, role, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	if err != nil {
		return fmt.Errorf("applying ClusterRole %s: %w", name, err)
	}
	return nil
}

// readerRole may read repositories, and nothing else.
const readerRole = "fairway-reader"

// EnsureReaders lets the namespaces' deliveries read every repository: those
// where whoever may write is trusted with the cluster anyway. It may be called
// any number of times, and takes back what it gave to others.
func EnsureReaders(ctx context.Context, client kubernetes.Interface, namespaces ...string) error {
	const name = "fairway-deliveries"
	binding := rbacac.ClusterRoleBinding(name).
		WithRoleRef(rbacac.RoleRef().WithAPIGroup(rbacv1.GroupName).WithKind("ClusterRole").WithName(readerRole))
	for _, namespace := range namespaces {
		binding.WithSubjects(accountSubject(namespace, "default"))
	}
	_, err := client.RbacV1().ClusterRoleBindings().Apply(ctx, binding, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	if err != nil {
		return fmt.Errorf("applying ClusterRoleBinding %s: %w", name, err)
	}
	return nil
}
