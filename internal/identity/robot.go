package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	coreac "k8s.io/client-go/applyconfigurations/core/v1"
	rbacac "k8s.io/client-go/applyconfigurations/rbac/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/fairway-cd/fairway/internal/core"
)

const (
	fieldManager = "fairway"
	// labelRobot and labelRobotNamespace are on all that a robot is made of.
	labelRobot          = "fairway-cd.io/robot"
	labelRobotNamespace = "fairway-cd.io/robot-namespace"
	// annotationCan is on its ServiceAccount: its grants, with spaces between.
	annotationCan = "fairway-cd.io/can"
)

// Robot is a user that is a program: a ServiceAccount, and in each namespace
// where it may do something a Role and a RoleBinding.
type Robot struct {
	Namespace, Name string
	Grants          []Grant
	Created         time.Time
}

// User is the robot's Kubernetes user name.
func (r Robot) User() string { return "system:serviceaccount:" + r.Namespace + ":" + r.Name }

// Token is a credential and when it ends, which the cluster decides.
type Token struct {
	Value   string
	Expires time.Time
}

// Robots makes, lists and revokes robots, as the client's user.
type Robots struct {
	client kubernetes.Interface
}

// NewRobots returns the robots of the client's cluster.
func NewRobots(client kubernetes.Interface) *Robots { return &Robots{client: client} }

// RobotExistsError says that there is a robot of that name with other grants.
type RobotExistsError struct{ Robot Robot }

func (e *RobotExistsError) Error() string {
	return fmt.Sprintf("robot %s/%s exists and has other grants: %s", e.Robot.Namespace, e.Robot.Name, joinGrants(e.Robot.Grants))
}

// Hint implements core.Hinted.
func (e *RobotExistsError) Hint() string {
	return "revoke it first, choose another name, or leave --can out for one more token of it"
}

// NotARobotError says that a ServiceAccount is not one of ours.
type NotARobotError struct{ Namespace, Name string }

func (e *NotARobotError) Error() string {
	return fmt.Sprintf("ServiceAccount %s/%s was not made by 'fairway token create'", e.Namespace, e.Name)
}

// ErrNoRobot says that there is no robot of a name.
var ErrNoRobot = errors.New("no such robot")

// Ensure makes a robot with exactly these grants. One that exists with the same
// grants is left alone, as is one that exists where grants is nil; other grants
// are a *RobotExistsError. Done half, it can be done again.
func (r *Robots) Ensure(ctx context.Context, namespace, name string, grants []Grant) (Robot, error) {
	if problems := validation.IsDNS1123Label(name); len(problems) > 0 {
		return Robot{}, fmt.Errorf("robot name %q: %s", name, problems[0])
	}
	was, err := r.get(ctx, namespace, name)
	switch {
	case err == nil && grants == nil:
		return was, nil
	case err == nil && !slices.Equal(was.Grants, grants):
		return Robot{}, &RobotExistsError{Robot: was}
	case err != nil && !errors.Is(err, ErrNoRobot):
		return Robot{}, err
	}
	// A namespace that is missing is better said before anything is made.
	for _, target := range append(slices.Sorted(maps.Keys(rulesByNamespace(grants))), namespace) {
		if _, err := r.client.CoreV1().Namespaces().Get(ctx, target, metav1.GetOptions{}); apierrors.IsNotFound(err) {
			return Robot{}, &core.NoNamespaceError{Namespace: target}
		}
		// Who may not look up namespaces goes on, and is told below.
	}
	labels := map[string]string{labelRobot: name, labelRobotNamespace: namespace}
	account, err := r.client.CoreV1().ServiceAccounts(namespace).Apply(ctx,
		coreac.ServiceAccount(name, namespace).
			WithLabels(labels).
			WithAnnotations(map[string]string{annotationCan: joinGrants(grants)}).
			WithAutomountServiceAccountToken(false),
		metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	if err != nil {
		return Robot{}, fmt.Errorf("making ServiceAccount %s/%s: %w", namespace, name, err)
	}
	robot := Robot{Namespace: namespace, Name: name, Grants: grants, Created: account.CreationTimestamp.Time}
	for target, rules := range rulesByNamespace(grants) {
		if err := r.bind(ctx, robot, target, rules, labels); err != nil {
			return Robot{}, err
		}
	}
	return robot, nil
}

// get returns the robot, ErrNoRobot or a *NotARobotError.
func (r *Robots) get(ctx context.Context, namespace, name string) (Robot, error) {
	account, err := r.client.CoreV1().ServiceAccounts(namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return Robot{}, fmt.Errorf("%w: %s/%s", ErrNoRobot, namespace, name)
	case err != nil:
		return Robot{}, fmt.Errorf("reading ServiceAccount %s/%s: %w", namespace, name, err)
	case account.Labels[labelRobot] != name:
		return Robot{}, &NotARobotError{Namespace: namespace, Name: name}
	}
	return robotOf(account)
}

func robotOf(account *corev1.ServiceAccount) (Robot, error) {
	grants, err := ParseGrants(strings.Fields(account.Annotations[annotationCan]), account.Namespace)
	if err != nil {
		return Robot{}, fmt.Errorf("annotation %s of ServiceAccount %s/%s: %w", annotationCan, account.Namespace, account.Name, err)
	}
	return Robot{
		Namespace: account.Namespace, Name: account.Name, Grants: grants,
		Created: account.CreationTimestamp.Time,
	}, nil
}

func joinGrants(grants []Grant) string {
	texts := make([]string, len(grants))
	for i, g := range grants {
		texts[i] = g.String()
	}
	return strings.Join(texts, " ")
}

func rulesByNamespace(grants []Grant) map[string][]rbacv1.PolicyRule {
	rules := map[string][]rbacv1.PolicyRule{}
	for _, g := range grants {
		rules[g.Name.Namespace] = append(rules[g.Name.Namespace], g.rules()...)
	}
	return rules
}

// roleName names a robot's Role and RoleBinding in every namespace. No two
// robots share one: a colon is in neither part.
func (r Robot) roleName() string { return "fairway:robot:" + r.Namespace + ":" + r.Name }

// bind gives the robot the rules in a namespace.
func (r *Robots) bind(ctx context.Context, robot Robot, namespace string, rules []rbacv1.PolicyRule, labels map[string]string) error {
	options := metav1.ApplyOptions{FieldManager: fieldManager, Force: true}
	role := rbacac.Role(robot.roleName(), namespace).WithLabels(labels)
	for _, rule := range rules {
		role.WithRules(policyRule(rule))
	}
	if _, err := r.client.RbacV1().Roles(namespace).Apply(ctx, role, options); err != nil {
		return fmt.Errorf("granting in namespace %s: %w", namespace, err)
	}
	binding := rbacac.RoleBinding(robot.roleName(), namespace).WithLabels(labels).
		WithRoleRef(rbacac.RoleRef().WithAPIGroup(rbacv1.GroupName).WithKind("Role").WithName(robot.roleName())).
		WithSubjects(accountSubject(robot.Namespace, robot.Name))
	if _, err := r.client.RbacV1().RoleBindings(namespace).Apply(ctx, binding, options); err != nil {
		return fmt.Errorf("granting in namespace %s: %w", namespace, err)
	}
	return nil
}

func accountSubject(namespace, name string) *rbacac.SubjectApplyConfiguration {
	return rbacac.Subject().WithKind(rbacv1.ServiceAccountKind).WithNamespace(namespace).WithName(name)
}

func policyRule(rule rbacv1.PolicyRule) *rbacac.PolicyRuleApplyConfiguration {
	return rbacac.PolicyRule().WithAPIGroups(rule.APIGroups...).WithResources(rule.Resources...).
		WithResourceNames(rule.ResourceNames...).WithVerbs(rule.Verbs...)
}

// Token asks the cluster for a token of the robot's. Without audiences it is
// for the Kubernetes API (and Fairway takes it); with Audience it is good for
// Fairway alone. The cluster may give a shorter lifetime than asked for.
func (r *Robots) Token(ctx context.Context, robot Robot, ttl time.Duration, audiences ...string) (Token, error) {
	return requestToken(ctx, r.client, robot.Namespace, robot.Name, ttl, audiences...)
}

func requestToken(ctx context.Context, client kubernetes.Interface, namespace, name string, ttl time.Duration, audiences ...string) (Token, error) {
	seconds := int64(ttl / time.Second)
	answer, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{Audiences: audiences, ExpirationSeconds: &seconds},
	}, metav1.CreateOptions{})
	if err != nil {
		return Token{}, fmt.Errorf("requesting a token of ServiceAccount %s/%s: %w", namespace, name, err)
	}
	return Token{Value: answer.Status.Token, Expires: answer.Status.ExpirationTimestamp.Time}, nil
}

// List returns the robots of a namespace, or of all if it is empty.
func (r *Robots) List(ctx context.Context, namespace string) ([]Robot, error) {
	accounts, err := r.client.CoreV1().ServiceAccounts(namespace).List(ctx, metav1.ListOptions{LabelSelector: labelRobot})
	if err != nil {
		return nil, fmt.Errorf("listing robots: %w", err)
	}
	robots := make([]Robot, 0, len(accounts.Items))
	for i := range accounts.Items {
		robot, err := robotOf(&accounts.Items[i])
		if err != nil {
			return nil, err
		}
		robots = append(robots, robot)
	}
	return robots, nil
}

// Revoke ends a robot: its permissions first, then its tokens, by deleting its
// ServiceAccount. Every token of it stops working within seconds. Done half, it
// can be done again.
func (r *Robots) Revoke(ctx context.Context, namespace, name string) (Robot, error) {
	robot, err := r.get(ctx, namespace, name)
	if err != nil {
		return Robot{}, err
	}
	gone := func(err error) error {
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	}
	for _, target := range slices.Sorted(maps.Keys(rulesByNamespace(robot.Grants))) {
		if err := gone(r.client.RbacV1().RoleBindings(target).Delete(ctx, robot.roleName(), metav1.DeleteOptions{})); err != nil {
			return Robot{}, fmt.Errorf("revoking in namespace %s: %w", target, err)
		}
		if err := gone(r.client.RbacV1().Roles(target).Delete(ctx, robot.roleName(), metav1.DeleteOptions{})); err != nil {
			return Robot{}, fmt.Errorf("revoking in namespace %s: %w", target, err)
		}
	}
	if err := gone(r.client.CoreV1().ServiceAccounts(namespace).Delete(ctx, name, metav1.DeleteOptions{})); err != nil {
		return Robot{}, fmt.Errorf("deleting ServiceAccount %s/%s: %w", namespace, name, err)
	}
	return robot, nil
}

// MarshalJSON is the robot as commands print it.
func (r Robot) MarshalJSON() ([]byte, error) {
	can := make([]string, len(r.Grants))
	for i, g := range r.Grants {
		can[i] = g.String()
	}
	return json.Marshal(struct {
		Name      string    `json:"name"`
		Namespace string    `json:"namespace"`
		User      string    `json:"user"`
		Can       []string  `json:"can"`
		Created   time.Time `json:"created"`
	}{r.Name, r.Namespace, r.User(), can, r.Created})
}
