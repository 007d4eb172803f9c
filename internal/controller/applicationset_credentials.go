package controller

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/appset/scm"
)

// secretSCM is the label's value of a Secret whose tokens are for generators,
// as Argo CD's strict mode has it.
const secretSCM = "scm-creds"

// setCredentials reads what generators refer to, in the set's namespace.
type setCredentials struct {
	*Engine
	namespace string
}

var _ scm.Credentials = setCredentials{}

// CredentialError says that a generator's Secret or ConfigMap is not to be had,
// or not for what it is asked for.
type CredentialError struct{ Kind, Name, Problem, hint string }

func (e *CredentialError) Error() string { return fmt.Sprintf("%s %q %s", e.Kind, e.Name, e.Problem) }

// Hint implements core.Hinted.
func (e *CredentialError) Hint() string { return e.hint }

// Secret implements scm.Credentials. Whoever writes a set names a Secret that
// he need not be able to read, and a host that the value goes to. So what
// opens repositories and clusters is for no generator, and what goes to a host
// that the set names is to be marked for generators.
func (c setCredentials) Secret(ctx context.Context, ref argo.SecretRef, elsewhere bool) (string, error) {
	var s corev1.Secret
	err := c.reader.Get(ctx, types.NamespacedName{Namespace: c.namespace, Name: ref.SecretName}, &s)
	if apierrors.IsNotFound(err) {
		return "", &CredentialError{Kind: "secret", Name: ref.SecretName, Problem: "is not there"}
	}
	if err != nil {
		return "", fmt.Errorf("read secret %q: %w", ref.SecretName, err)
	}
	kind := s.Labels[labelSecretType]
	if kind != secretSCM && (elsewhere || kind != "") {
		return "", &CredentialError{
			Kind: "secret", Name: ref.SecretName, Problem: "is not marked for the generators of ApplicationSets",
			hint: "label it " + labelSecretType + "=" + secretSCM,
		}
	}
	value := string(s.Data[ref.Key])
	if value == "" {
		return "", &CredentialError{Kind: "secret", Name: ref.SecretName, Problem: fmt.Sprintf("has no key %q", ref.Key)}
	}
	return value, nil
}

// ConfigMap implements scm.Credentials.
func (c setCredentials) ConfigMap(ctx context.Context, ref argo.ConfigMapKeyRef) (string, error) {
	var m corev1.ConfigMap
	err := c.reader.Get(ctx, types.NamespacedName{Namespace: c.namespace, Name: ref.ConfigMapName}, &m)
	if apierrors.IsNotFound(err) {
		return "", &CredentialError{Kind: "configmap", Name: ref.ConfigMapName, Problem: "is not there"}
	}
	if err != nil {
		return "", fmt.Errorf("read configmap %q: %w", ref.ConfigMapName, err)
	}
	if m.Data[ref.Key] == "" {
		return "", &CredentialError{Kind: "configmap", Name: ref.ConfigMapName, Problem: fmt.Sprintf("has no key %q", ref.Key)}
	}
	return m.Data[ref.Key], nil
}
