package main

import (
	"context"
	"fmt"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	rbacapply "k8s.io/client-go/applyconfigurations/rbac/v1"
)

// What "cluster add" makes in a cluster.
const (
	managerName            = "fairway-manager"
	defaultSystemNamespace = "kube-system"
	tokenSuffix            = "-token"
	// tokenTimeout is how long the cluster may take to make a token; it takes
	// milliseconds.
	tokenTimeout = 30 * time.Second
)

// applied are the options with which it is made again.
var applied = metav1.ApplyOptions{FieldManager: "fairway", Force: true}

// own makes the account and permits it what it is for; its name is returned.
func (t *targetCluster) own(ctx context.Context, a *clusterAdd, out io.Writer) (string, error) {
	if a.account != "" {
		_, err := t.client.CoreV1().ServiceAccounts(a.system).Get(ctx, a.account, metav1.GetOptions{})
		if err != nil {
			return "", fmt.Errorf("looking for ServiceAccount %s/%s of %s: %w", a.system, a.account, t.context, err)
		}
		return a.account, nil
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: managerName, Namespace: a.system}}
	_, err := t.client.CoreV1().ServiceAccounts(a.system).Create(ctx, account, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return "", fmt.Errorf("making ServiceAccount %s/%s in the cluster of %s: %w", a.system, managerName, t.context, err)
	}
	fmt.Fprintf(out, "serviceaccount '%s/%s' in the cluster of %s\n", a.system, managerName, t.context)
	if len(a.namespaces) == 0 {
		return managerName, t.permitAll(ctx, a.system, out)
	}
	for _, namespace := range a.namespaces {
		if err := t.permitIn(ctx, namespace, a.system, out); err != nil {
			return "", err
		}
	}
	if a.clusterResources {
		return managerName, t.permitAll(ctx, a.system, out)
	}
	return managerName, nil
}

func everything() *rbacapply.PolicyRuleApplyConfiguration {
	return rbacapply.PolicyRule().WithAPIGroups("*").WithResources("*").WithVerbs("*")
}

func manager(system string) *rbacapply.SubjectApplyConfiguration {
	return rbacapply.Subject().WithKind("ServiceAccount").WithName(managerName).WithNamespace(system)
}

// permitAll permits everything in all of the cluster.
func (t *targetCluster) permitAll(ctx context.Context, system string, out io.Writer) error {
	role := rbacapply.ClusterRole(managerName).WithRules(everything(), rbacapply.PolicyRule().WithNonResourceURLs("*").WithVerbs("*"))
	if _, err := t.client.RbacV1().ClusterRoles().Apply(ctx, role, applied); err != nil {
		return fmt.Errorf("making ClusterRole %s: %w", managerName, err)
	}
	binding := rbacapply.ClusterRoleBinding(managerName).WithSubjects(manager(system)).
		WithRoleRef(rbacapply.RoleRef().WithAPIGroup(rbacv1.GroupName).WithKind("ClusterRole").WithName(managerName))
	if _, err := t.client.RbacV1().ClusterRoleBindings().Apply(ctx, binding, applied); err != nil {
		return fmt.Errorf("making ClusterRoleBinding %s: %w", managerName, err)
	}
	fmt.Fprintf(out, "clusterrole and clusterrolebinding '%s': everything\n", managerName)
	return nil
}

// permitIn permits everything in a namespace.
func (t *targetCluster) permitIn(ctx context.Context, namespace, system string, out io.Writer) error {
	role := rbacapply.Role(managerName, namespace).WithRules(everything())
	if _, err := t.client.RbacV1().Roles(namespace).Apply(ctx, role, applied); err != nil {
		return fmt.Errorf("making Role %s/%s: %w", namespace, managerName, err)
	}
	binding := rbacapply.RoleBinding(managerName, namespace).WithSubjects(manager(system)).
		WithRoleRef(rbacapply.RoleRef().WithAPIGroup(rbacv1.GroupName).WithKind("Role").WithName(managerName))
	if _, err := t.client.RbacV1().RoleBindings(namespace).Apply(ctx, binding, applied); err != nil {
		return fmt.Errorf("making RoleBinding %s/%s: %w", namespace, managerName, err)
	}
	fmt.Fprintf(out, "role and rolebinding '%s/%s': everything in the namespace\n", namespace, managerName)
	return nil
}

// token returns a token of the account that does not expire. Fairway holds it
// for as long as it delivers, and is not asked by the cluster to renew it.
func (t *targetCluster) token(ctx context.Context, namespace, account string, anew bool) (string, error) {
	secrets := t.client.CoreV1().Secrets(namespace)
	name := account + tokenSuffix
	if anew {
		err := secrets.Delete(ctx, name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return "", fmt.Errorf("deleting the token of %s/%s: %w", namespace, account, err)
		}
	}
	_, err := secrets.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, Annotations: map[string]string{corev1.ServiceAccountNameKey: account}},
		Type:       corev1.SecretTypeServiceAccountToken,
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return "", fmt.Errorf("making a token of %s/%s: %w", namespace, account, err)
	}
	token := ""
	err = wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, tokenTimeout, true, func(ctx context.Context) (bool, error) {
		s, err := secrets.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		token = string(s.Data[corev1.ServiceAccountTokenKey])
		return token != "", nil
	})
	if err != nil {
		return "", fmt.Errorf("waiting for the token of %s/%s: %w", namespace, account, err)
	}
	return token, nil
}

// disown deletes what own and token have made in all of the cluster.
func (t *targetCluster) disown(ctx context.Context, system string, out io.Writer) error {
	now := metav1.DeleteOptions{}
	for what, remove := range map[string]func() error{
		"clusterrolebinding": func() error { return t.client.RbacV1().ClusterRoleBindings().Delete(ctx, managerName, now) },
		"clusterrole":        func() error { return t.client.RbacV1().ClusterRoles().Delete(ctx, managerName, now) },
		"token":              func() error { return t.client.CoreV1().Secrets(system).Delete(ctx, managerName+tokenSuffix, now) },
		"serviceaccount":     func() error { return t.client.CoreV1().ServiceAccounts(system).Delete(ctx, managerName, now) },
	} {
		if err := remove(); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("deleting the %s %s in the cluster of %s: %w", what, managerName, t.context, err)
		}
	}
	fmt.Fprintf(out, "serviceaccount '%s/%s' deleted in the cluster of %s\n", system, managerName, t.context)
	return nil
}
