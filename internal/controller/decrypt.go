package controller

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/mark"
	"github.com/fairway-cd/fairway/internal/render"
	"github.com/fairway-cd/fairway/internal/secrets/sops"
)

// annotationDecryption on an AppProject names the Secret, in the project's
// namespace, with whose keys what its Applications deliver is decrypted.
const annotationDecryption = "fairway-cd.io/decryption-secret"

// providerSOPS is the only one that Flux has too.
const providerSOPS = "sops"

// decryption says with which keys a delivery is decrypted.
type decryption struct {
	// secret holds them. An Application's project names it by an annotation.
	secret  types.NamespacedName
	project string
	// at is what asks for it, for messages.
	at string
	// keys are nil until unlock has read them, and where there are none.
	keys     *sops.Keys
	unlocked bool
	// private is what was decrypted of other kinds than Secret.
	private *private
}

// kustomizationDecryption reads spec.decryption.
func kustomizationDecryption(k *kustomizationObject, refused *SpecError) decryption {
	asked := k.Spec.Decryption
	if asked == nil {
		return decryption{unlocked: true}
	}
	if asked.Provider != providerSOPS {
		refused.add("spec.decryption.provider", "%q is not supported; want %s", asked.Provider, providerSOPS)
	}
	if asked.ServiceAccountName != "" {
		refused.add("spec.decryption.serviceAccountName", "key services of clouds are not supported; want a secretRef with age or PGP keys")
	}
	if asked.SecretRef == nil || asked.SecretRef.Name == "" {
		refused.add("spec.decryption.secretRef", "is required: the age and PGP keys are in a Secret")
		return decryption{}
	}
	return decryption{secret: types.NamespacedName{Namespace: k.Namespace, Name: asked.SecretRef.Name}, at: "spec.decryption.secretRef"}
}

// unlock reads the keys of the delivery, once.
func (e *Engine) unlock(ctx context.Context, d *delivery) error {
	c := &d.decryption
	if c.unlocked {
		return nil
	}
	if c.project != "" {
		if err := e.projectDecryption(ctx, c); err != nil || c.secret.Name == "" {
			c.unlocked = err == nil
			return err
		}
	}
	var s corev1.Secret
	if err := e.reader.Get(ctx, c.secret, &s); err != nil {
		if apierrors.IsNotFound(err) {
			return &DecryptError{c.at, fmt.Errorf("Secret %s is not there", c.secret)}
		}
		return fmt.Errorf("%s: read Secret %s: %w", c.at, c.secret, err)
	}
	keys, err := sops.ParseKeys(s.Data)
	if err != nil {
		return &DecryptError{c.at, fmt.Errorf("Secret %s: %w", c.secret, err)}
	}
	c.keys, c.unlocked = keys, true
	return nil
}

// work identifies what is asked for, as whom, and the keys: other keys are
// other work. Who sees a digest over it cannot try values on that.
func (d *delivery) work() string {
	parts := []string{d.params}
	if d.options.As != "" {
		parts = append(parts, d.options.As)
	}
	if d.decryption.keys != nil {
		parts = append(parts, opener{d.decryption.keys}.Identity())
	}
	if len(parts) == 1 {
		return d.params
	}
	return digest(parts)
}

// projectDecryption finds the Secret that an Application's project names.
func (e *Engine) projectDecryption(ctx context.Context, c *decryption) error {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(argo.GroupVersion.WithKind(argo.AppProjectKind))
	key := types.NamespacedName{Namespace: e.opts.ArgoNamespace, Name: c.project}
	if err := e.client.Get(ctx, key, u); err != nil {
		if apierrors.IsNotFound(err) {
			return nil // which is refused elsewhere
		}
		return fmt.Errorf("get project %s: %w", key, err)
	}
	c.secret = types.NamespacedName{Namespace: key.Namespace, Name: u.GetAnnotations()[annotationDecryption]}
	c.at = fmt.Sprintf("annotation %s of project %q", annotationDecryption, c.project)
	return nil
}

// opener is keys as a render uses them.
type opener struct{ keys *sops.Keys }

var _ render.Decrypter = opener{}

// Decrypt implements render.Decrypter.
func (o opener) Decrypt(data []byte, name string) ([]byte, error) {
	format := sops.FormatOf(name)
	if !sops.Encrypted(data, format) {
		return data, nil
	}
	return sops.Decrypt(data, format, o.keys)
}

// Identity implements render.Decrypter.
func (o opener) Identity() string {
	digest := o.keys.Digest()
	return hex.EncodeToString(digest[:])
}

// decrypter is nil where there are no keys.
func (c *decryption) decrypter() render.Decrypter {
	if c.keys == nil {
		return nil
	}
	return opener{c.keys}
}

// decrypt decrypts the objects that sops has encrypted, in place of them. A
// Secret that is encrypted, and is not to be decrypted, is an error: it would
// be applied with its cipher texts for values.
func (c *decryption) decrypt(objects []*unstructured.Unstructured) error {
	if c.private == nil {
		c.private = &private{}
	}
	for i, o := range objects {
		disabled := strings.EqualFold(mark.FluxSetting(o, "decrypt"), "disabled")
		encrypted := sops.EncryptedObject(o.Object)
		if c.keys == nil {
			if encrypted && !disabled && isSecret(o) {
				return &DecryptError{refOf(o).String() + " cannot be decrypted", errNoKeys}
			}
			continue
		}
		var err error
		switch {
		case disabled:
		case encrypted:
			var plain map[string]any
			if plain, err = sops.DecryptObject(o.Object, c.keys); err == nil {
				objects[i] = &unstructured.Unstructured{Object: plain}
				if !isSecret(o) {
					c.private.note(o, objects[i])
				}
			}
		case isSecret(o):
			objects[i], err = c.decryptData(o)
		}
		if err != nil {
			return &DecryptError{refOf(o).String() + " cannot be decrypted", err}
		}
	}
	return nil
}

// decryptData decrypts the values of a Secret that are encrypted files
// themselves, as kustomize-controller does.
func (c *decryption) decryptData(o *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	data, _ := o.Object["data"].(map[string]any)
	out := o
	for key, v := range data {
		text, _ := v.(string)
		file, err := base64.StdEncoding.DecodeString(text)
		if err != nil || !sops.Encrypted(file, sops.FormatOf(key)) {
			continue
		}
		plain, err := sops.Decrypt(file, sops.FormatOf(key), c.keys)
		if err != nil {
			return nil, fmt.Errorf("data.%s: %w", key, err)
		}
		if out == o {
			out = o.DeepCopy()
		}
		out.Object["data"].(map[string]any)[key] = base64.StdEncoding.EncodeToString(plain)
	}
	return out, nil
}

func isSecret(o *unstructured.Unstructured) bool {
	gvk := o.GroupVersionKind()
	return gvk.Group == "" && gvk.Kind == "Secret"
}

// DecryptError says that something in the source cannot be decrypted, or that
// the keys are not to be had.
type DecryptError struct {
	what string
	err  error
}

func (e *DecryptError) Error() string {
	return e.what + ": " + e.err.Error()
}
func (e *DecryptError) Unwrap() error { return e.err }

// noKeysError says that there is nothing to decrypt with.
type noKeysError struct{}

var errNoKeys = noKeysError{}

func (noKeysError) Error() string { return "it is encrypted by sops, and no keys are given" }

// Hint says where keys are given.
func (noKeysError) Hint() string {
	return "set spec.decryption of the Kustomization, or annotate the Application's project with " + annotationDecryption
}

// tell has what was decrypted kept from whoever reads what the deployer says.
func (d *delivery) tell(to *discreet) {
	if d.decryption.private != nil {
		to.know(d.owner, d.decryption.private)
	}
}
