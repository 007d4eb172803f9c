package identity

import (
	"context"
	"fmt"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	admissionac "k8s.io/client-go/applyconfigurations/admissionregistration/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/fairway-cd/fairway/internal/core"
)

const (
	mirrorPolicy = "fairway-cd.io-instead-of"

	// mirrorRule holds for a Repository whose URLs stay as they were, and for
	// whoever may create repositories in each namespace: authorizer asks
	// without a namespace, which means all of them.
	mirrorRule = `(has(object.spec) && has(object.spec.insteadOf) ? object.spec.insteadOf : []) ==` +
		` (oldObject != null && has(oldObject.spec) && has(oldObject.spec.insteadOf) ? oldObject.spec.insteadOf : []) ||` +
		` authorizer.group('` + core.Group + `').resource('` + core.ResourceRepositories + `').check('create').allowed()`

	mirrorMessage = "spec.insteadOf changes what a URL means for every namespace: " +
		"that takes the right to create repositories in all of them"
)

// applyMirrorPolicy has the API server refuse a spec.insteadOf of a Repository
// from who is only trusted with its namespace: other namespaces' deliveries
// would take what they put there for what is at the URL. It needs Kubernetes
// 1.30, where ValidatingAdmissionPolicy became stable.
func applyMirrorPolicy(ctx context.Context, client kubernetes.Interface) error {
	policy := admissionac.ValidatingAdmissionPolicy(mirrorPolicy).WithSpec(
		admissionac.ValidatingAdmissionPolicySpec().
			WithFailurePolicy(admissionv1.Fail).
			WithMatchConstraints(admissionac.MatchResources().WithResourceRules(
				admissionac.NamedRuleWithOperations().
					WithOperations(admissionv1.Create, admissionv1.Update).
					WithAPIGroups(core.Group).WithAPIVersions("*").WithResources(core.ResourceRepositories))).
			WithValidations(admissionac.Validation().
				WithExpression(mirrorRule).WithMessage(mirrorMessage).WithReason(metav1.StatusReasonForbidden)))
	binding := admissionac.ValidatingAdmissionPolicyBinding(mirrorPolicy).WithSpec(
		admissionac.ValidatingAdmissionPolicyBindingSpec().
			WithPolicyName(mirrorPolicy).WithValidationActions(admissionv1.Deny))
	return applyPolicy(ctx, client, mirrorPolicy, policy, binding)
}

const (
	projectRolesPolicy = "fairway-cd.io-project-roles"

	projectRolesRule = `!has(object.spec) || !has(object.spec.roles) || size(object.spec.roles) == 0`

	projectRolesMessage = "spec.roles is not enforced: policies, groups and tokens of Argo CD's projects give no permission here. " +
		"Who may do what is Kubernetes RBAC on applications.argoproj.io"
)

// applyProjectRolesPolicy has the API server tell whoever writes an AppProject
// with roles that they do nothing. Kubernetes RBAC cannot say what they say:
// it knows no patterns of names, no denials, and no field such as the project
// of an Application.
func applyProjectRolesPolicy(ctx context.Context, client kubernetes.Interface) error {
	policy := admissionac.ValidatingAdmissionPolicy(projectRolesPolicy).WithSpec(
		admissionac.ValidatingAdmissionPolicySpec().
			WithFailurePolicy(admissionv1.Ignore). // it only says something
			WithMatchConstraints(admissionac.MatchResources().WithResourceRules(
				admissionac.NamedRuleWithOperations().
					WithOperations(admissionv1.Create, admissionv1.Update).
					WithAPIGroups("argoproj.io").WithAPIVersions("*").WithResources("appprojects"))).
			WithValidations(admissionac.Validation().WithExpression(projectRolesRule).WithMessage(projectRolesMessage)))
	binding := admissionac.ValidatingAdmissionPolicyBinding(projectRolesPolicy).WithSpec(
		admissionac.ValidatingAdmissionPolicyBindingSpec().
			WithPolicyName(projectRolesPolicy).WithValidationActions(admissionv1.Warn))
	return applyPolicy(ctx, client, projectRolesPolicy, policy, binding)
}

func applyPolicy(ctx context.Context, client kubernetes.Interface, name string, policy *admissionac.ValidatingAdmissionPolicyApplyConfiguration,
	binding *admissionac.ValidatingAdmissionPolicyBindingApplyConfiguration) error {
	options := metav1.ApplyOptions{FieldManager: fieldManager, Force: true}
	admission := client.AdmissionregistrationV1()
	if _, err := admission.ValidatingAdmissionPolicies().Apply(ctx, policy, options); err != nil {
		if apierrors.IsNotFound(err) {
			return fmt.Errorf("applying ValidatingAdmissionPolicy %s: Kubernetes 1.30 or newer is needed: %w", name, err)
		}
		return fmt.Errorf("applying ValidatingAdmissionPolicy %s: %w", name, err)
	}
	if _, err := admission.ValidatingAdmissionPolicyBindings().Apply(ctx, binding, options); err != nil {
		return fmt.Errorf("applying ValidatingAdmissionPolicyBinding %s: %w", name, err)
	}
	return nil
}
