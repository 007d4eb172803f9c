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
	options := metav1.ApplyOptions{FieldManager: fieldManager, Force: true}
	admission := client.AdmissionregistrationV1()
	if _, err := admission.ValidatingAdmissionPolicies().Apply(ctx, policy, options); err != nil {
		if apierrors.IsNotFound(err) {
			return fmt.Errorf("applying ValidatingAdmissionPolicy %s: Kubernetes 1.30 or newer is needed: %w", mirrorPolicy, err)
		}
		return fmt.Errorf("applying ValidatingAdmissionPolicy %s: %w", mirrorPolicy, err)
	}
	if _, err := admission.ValidatingAdmissionPolicyBindings().Apply(ctx, binding, options); err != nil {
		return fmt.Errorf("applying ValidatingAdmissionPolicyBinding %s: %w", mirrorPolicy, err)
	}
	return nil
}
