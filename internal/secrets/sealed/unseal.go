package sealed

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Kind is that of the objects.
const Kind = "SealedSecret"

// maxValues bounds the values of one SealedSecret: each may have to be tried
// with each key.
const maxValues = 1000

// Error says why a SealedSecret is not opened.
type Error struct{ Problems []string }

func (e *Error) Error() string {
	const most = 10
	shown := e.Problems
	if len(shown) > most {
		shown = append(slices.Clone(shown[:most]), fmt.Sprintf("and %d more", len(e.Problems)-most))
	}
	return strings.Join(shown, "; ")
}

// Unseal makes the Secret of a SealedSecret. Templates are filled in by fill.
// Errors: *Error where the SealedSecret is at fault, and fill's.
func Unseal(ctx context.Context, s *v1alpha1.SealedSecret, keys *Keys, fill Fill) (*corev1.Secret, error) {
	values, err := open(s, keys)
	if err != nil {
		return nil, err
	}
	t := &s.Spec.Template
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: s.Namespace, Name: s.Name, Finalizers: slices.Clone(t.Finalizers),
			Labels: maps.Clone(t.Labels), Annotations: maps.Clone(t.Annotations),
		},
		Type: t.Type, Immutable: t.Immutable, Data: values,
	}
	if t.Annotations[v1alpha1.SealedSecretSkipSetOwnerReferencesAnnotation] != "true" {
		controller := true
		secret.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: Kind, Name: s.Name, UID: s.UID, Controller: &controller,
		}}
	}
	if len(t.Data) > 0 {
		filled, err := fill(ctx, t.Data, values)
		if err != nil {
			return nil, err
		}
		maps.Copy(secret.Data, filled)
	}
	return secret, nil
}

// open decrypts all values.
func open(s *v1alpha1.SealedSecret, keys *Keys) (map[string][]byte, error) {
	if len(s.Spec.Data) > 0 {
		return nil, &Error{[]string{"spec.data is an old form that is not supported: seal the Secret again"}}
	}
	if n := len(s.Spec.EncryptedData); n > maxValues {
		return nil, &Error{[]string{fmt.Sprintf("spec.encryptedData has %d values, the limit is %d", n, maxValues)}}
	}
	values := make(map[string][]byte, len(s.Spec.EncryptedData))
	wrong := &Error{}
	for _, key := range slices.Sorted(maps.Keys(s.Spec.EncryptedData)) {
		sealed, err := base64.StdEncoding.DecodeString(s.Spec.EncryptedData[key])
		if err != nil {
			err = errors.New("it is not base64")
		} else {
			values[key], err = keys.open(sealed, labelOf(s))
		}
		if err != nil {
			wrong.Problems = append(wrong.Problems, fmt.Sprintf("spec.encryptedData.%s: %v", key, err))
		}
	}
	if len(wrong.Problems) > 0 {
		return nil, wrong
	}
	return values, nil
}

// labelOf is what a value is sealed together with, by the object's scope.
func labelOf(s *v1alpha1.SealedSecret) []byte {
	return v1alpha1.EncryptionLabel(s.Namespace, s.Name, v1alpha1.SecretScope(s))
}

// Reseal seals the values again with the newest key.
func Reseal(s *v1alpha1.SealedSecret, keys *Keys) (*v1alpha1.SealedSecret, error) {
	values, err := open(s, keys)
	if err != nil {
		return nil, err
	}
	out := s.DeepCopy()
	out.Status = nil
	for key, value := range values {
		sealed, err := keys.seal(value, labelOf(s))
		if err != nil {
			return nil, fmt.Errorf("seal spec.encryptedData.%s: %w", key, err)
		}
		out.Spec.EncryptedData[key] = base64.StdEncoding.EncodeToString(sealed)
	}
	return out, nil
}
