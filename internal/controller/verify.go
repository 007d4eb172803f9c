package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/signature"
)

// VerifyError says why a revision is not taken: it is not signed by somebody
// who is trusted.
type VerifyError struct {
	Revision core.Revision
	Err      error
}

func (e *VerifyError) Error() string { return fmt.Sprintf("revision %s: %v", e.Revision, e.Err) }

func (e *VerifyError) Unwrap() error { return e.Err }

// keysError says that there are no keys to verify with.
type keysError struct{ err error }

func (e *keysError) Error() string { return e.err.Error() }

func (e *keysError) Unwrap() error { return e.err }

var errNotOfGit = errors.New("it is not of Git, and so it has no signature that could be verified")

// verifier is what spec.verify asks for: it is an error for a revision that is
// not signed as it wants. Errors: *keysError, of the API server.
func (g *gitRepositoryRun) verifier(ctx context.Context, refused *SpecError) (func(context.Context, core.Snapshot) error, error) {
	v := g.spec.Verification
	if v == nil {
		return func(context.Context, core.Snapshot) error { return nil }, nil
	}
	mode := v.Mode
	switch mode {
	case "", "head", sourcev1.ModeGitHEAD:
		mode = sourcev1.ModeGitHEAD
	case sourcev1.ModeGitTag, sourcev1.ModeGitTagAndHEAD:
		if r := g.spec.Reference; r == nil || r.Tag == "" && r.SemVer == "" && !strings.HasPrefix(r.Name, "refs/tags/") {
			refused.add("spec.verify.mode", "%q wants a tag in spec.ref", mode)
		}
	default:
		refused.add("spec.verify.mode", "%q is none of HEAD, Tag and TagAndHEAD", mode)
	}
	key := types.NamespacedName{Namespace: g.key.Namespace, Name: v.SecretRef.Name}
	var s corev1.Secret
	if err := g.reader.Get(ctx, key, &s); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, &keysError{fmt.Errorf("spec.verify: Secret %s is not there", key)}
		}
		return nil, fmt.Errorf("spec.verify: read Secret %s: %w", key, err)
	}
	keys := &signature.Keys{}
	for _, name := range sortedKeys(s.Data) {
		if !strings.HasSuffix(name, ".asc") && !strings.HasSuffix(name, ".sshpub") {
			continue
		}
		if err := keys.Add(name, s.Data[name]); err != nil {
			return nil, &keysError{fmt.Errorf("spec.verify: Secret %s: %w", key, err)}
		}
	}
	if keys.Empty() {
		return nil, &keysError{fmt.Errorf("spec.verify: Secret %s has no public keys, neither *.asc nor *.sshpub", key)}
	}
	return func(ctx context.Context, snap core.Snapshot) error { return verify(ctx, keys, mode, snap) }, nil
}

// verify checks the signatures that mode wants. The error is a *VerifyError, or
// of the repository.
func verify(ctx context.Context, keys *signature.Keys, mode sourcev1.GitVerificationMode, snap core.Snapshot) error {
	if snap.Signed == nil {
		return &VerifyError{snap.Revision, errNotOfGit}
	}
	commit, tag, err := snap.Signed(ctx)
	if err != nil {
		return err
	}
	if mode != sourcev1.ModeGitHEAD {
		if err := verifyTag(keys, tag, snap.Revision); err != nil {
			return &VerifyError{snap.Revision, err}
		}
	}
	if mode != sourcev1.ModeGitTag {
		if _, err := keys.Commit(commit); err != nil {
			return &VerifyError{snap.Revision, err}
		}
	}
	return nil
}

// verifyTag checks a tag's signature, and that it is this tag of this commit: a
// good one may have been copied to another name.
func verifyTag(keys *signature.Keys, tag []byte, at core.Revision) error {
	if tag == nil {
		return errors.New("it was found by no annotated tag")
	}
	if _, err := keys.Tag(tag); err != nil {
		return err
	}
	object, name := signature.TagOf(tag)
	if want := strings.TrimPrefix(at.Ref, "refs/tags/"); object != at.Commit || name != want {
		return fmt.Errorf("the signed tag is %q of %s, and not %q of %s", name, object, want, at.Commit)
	}
	return nil
}

// argoKeys is the ConfigMap in which Argo CD keeps the OpenPGP keys that it
// knows, beside the Applications.
const argoKeys = "argocd-gpg-keys-cm"

// verified is an error unless each of the revisions is signed with one of the
// project's signatureKeys, of which Argo CD's ConfigMap has the public keys.
func (a *applicationRun) verified(ctx context.Context, snaps []core.Snapshot) error {
	p, err := a.itsProject(ctx)
	if err != nil || len(p.Spec.SignatureKeys) == 0 {
		return err
	}
	keys, err := a.argoKeys(ctx)
	if err != nil {
		return err
	}
	for _, snap := range snaps {
		if err := signedBy(ctx, keys, p.Spec.SignatureKeys, snap); err != nil {
			return err
		}
	}
	return nil
}

// signedBy verifies the tag where the revision was found by an annotated one,
// and else the commit, as Argo CD does.
func signedBy(ctx context.Context, keys *signature.Keys, allowed []argo.SignatureKey, snap core.Snapshot) error {
	if snap.Signed == nil {
		return &VerifyError{snap.Revision, errNotOfGit}
	}
	commit, tag, err := snap.Signed(ctx)
	if err != nil {
		return err
	}
	var by signature.Signer
	if tag != nil {
		if by, err = keys.Tag(tag); err == nil {
			err = verifyTag(keys, tag, snap.Revision)
		}
	} else {
		by, err = keys.Commit(commit)
	}
	if err != nil {
		return &VerifyError{snap.Revision, err}
	}
	if !slices.ContainsFunc(allowed, func(k argo.SignatureKey) bool { return by.Is(k.KeyID) }) {
		return &VerifyError{snap.Revision, fmt.Errorf("it is signed with the key %s, which is none of the project's spec.signatureKeys", by)}
	}
	return nil
}

func (e *Engine) argoKeys(ctx context.Context) (*signature.Keys, error) {
	key := types.NamespacedName{Namespace: e.opts.ArgoNamespace, Name: argoKeys}
	var m corev1.ConfigMap
	if err := e.reader.Get(ctx, key, &m); err != nil && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("read ConfigMap %s: %w", key, err)
	}
	keys := &signature.Keys{}
	for _, name := range sortedKeys(m.Data) {
		if err := keys.Add(name, []byte(m.Data[name])); err != nil {
			return nil, &keysError{fmt.Errorf("ConfigMap %s: %w", key, err)}
		}
	}
	return keys, nil
}
