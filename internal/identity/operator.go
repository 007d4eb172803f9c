package identity

import (
	"context"
	"fmt"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coreac "k8s.io/client-go/applyconfigurations/core/v1"
	rbacac "k8s.io/client-go/applyconfigurations/rbac/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/fairway-cd/fairway/internal/core"
)

// SystemNamespace holds the instance's own accounts.
const SystemNamespace = "fairway-system"

// The accounts of who runs an instance: Operator where the cluster is the
// instance's own, Local where it is somebody else's.
const (
	Operator = "operator"
	Local    = "local"
)

// EnsureOperator makes the account of who runs an embedded cluster,
// fairway-system/operator with the ClusterRole cluster-admin, and returns a new
// token of it, for the Kubernetes API and Fairway. It may be called any number
// of times; earlier tokens stay good until they expire.
func EnsureOperator(ctx context.Context, client kubernetes.Interface, ttl time.Duration) (Token, error) {
	return ensureAccount(ctx, client, Operator, "cluster-admin", ttl)
}

// EnsureLocal makes the account with which plain git, registry clients and the
// UI on the instance's machine are let in where the cluster is somebody else's:
// fairway-system/local, which may do everything with repositories and images,
// and look at what is delivered. It returns a new token of it that is good for
// Fairway alone.
func EnsureLocal(ctx context.Context, client kubernetes.Interface, ttl time.Duration) (Token, error) {
	const role = "fairway-local"
	rules := []rbacv1.PolicyRule{
		ours("get", "list", "watch", "create", "update", "patch", "delete"),
		deliveries("get", "list", "watch"),
	}
	if err := applyClusterRole(ctx, client, role, nil, rules); err != nil {
		return Token{}, err
	}
	return ensureAccount(ctx, client, Local, role, ttl, Audience)
}

// EnsureNodePull makes the account with which a node pulls images,
// fairway-system/node, which may pull every image and do nothing else, and
// returns a new token of it that is good for Fairway alone.
func EnsureNodePull(ctx context.Context, client kubernetes.Interface, ttl time.Duration) (Token, error) {
	const role = "fairway-node-pull"
	err := applyClusterRole(ctx, client, role, nil, []rbacv1.PolicyRule{{
		APIGroups: []string{core.Group}, Resources: []string{core.ResourceImages}, Verbs: []string{"get"},
	}})
	if err != nil {
		return Token{}, err
	}
	return ensureAccount(ctx, client, "node", role, ttl, Audience)
}

// ensureAccount makes an account of the system namespace, gives it a
// ClusterRole, and returns a token of it.
func ensureAccount(ctx context.Context, client kubernetes.Interface, name, role string, ttl time.Duration, audiences ...string) (Token, error) {
	options := metav1.ApplyOptions{FieldManager: fieldManager, Force: true}
	if _, err := client.CoreV1().Namespaces().Apply(ctx, coreac.Namespace(SystemNamespace), options); err != nil {
		return Token{}, fmt.Errorf("making namespace %s: %w", SystemNamespace, err)
	}
	account := coreac.ServiceAccount(name, SystemNamespace).WithAutomountServiceAccountToken(false)
	if _, err := client.CoreV1().ServiceAccounts(SystemNamespace).Apply(ctx, account, options); err != nil {
		return Token{}, fmt.Errorf("making ServiceAccount %s/%s: %w", SystemNamespace, name, err)
	}
	binding := rbacac.ClusterRoleBinding("fairway-" + name).
		WithRoleRef(rbacac.RoleRef().WithAPIGroup(rbacv1.GroupName).WithKind("ClusterRole").WithName(role)).
		WithSubjects(accountSubject(SystemNamespace, name))
	if _, err := client.RbacV1().ClusterRoleBindings().Apply(ctx, binding, options); err != nil {
		return Token{}, fmt.Errorf("binding ServiceAccount %s/%s to ClusterRole %s: %w", SystemNamespace, name, role, err)
	}
	return requestToken(ctx, client, SystemNamespace, name, ttl, audiences...)
}
