package render

import (
	"encoding/base64"
	"errors"
	"path"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/types"

	"github.com/fairway-cd/fairway/internal/core"
)

// Decrypter opens files that are encrypted in the source, for what reads them
// during a build. Implementations are safe for concurrent use.
type Decrypter interface {
	// Decrypt returns the plain text of a file, or data as it is where it is not
	// encrypted. name says what format it has, as a file's name does. An error
	// holds nothing of the file.
	Decrypt(data []byte, name string) ([]byte, error)
	// Identity is a digest over the keys. It is part of a result's key.
	Identity() string
}

// noteEncrypted notes the files of a kustomization that may be encrypted, as
// kustomize-controller decrypts them before a build: what a secretGenerator
// reads, and patches. A configMapGenerator's are left as they are.
func (f *kustomizeFS) noteEncrypted(file string, k *types.Kustomization) {
	if f.job.req.Decrypt == nil {
		return
	}
	note := func(p, name string) { f.encrypted[path.Join(path.Dir(file), p)] = name }
	for _, g := range k.SecretGenerator {
		for _, s := range g.FileSources {
			key, p, ok := strings.Cut(s, "=")
			if !ok {
				p = key
			}
			note(p, key)
		}
		for _, p := range append([]string{g.EnvSource}, g.EnvSources...) {
			name := p
			switch path.Ext(p) {
			case ".yaml", ".yml", ".json", ".ini":
			default:
				name = ".env"
			}
			note(p, name)
		}
	}
	for _, p := range k.Patches {
		if p.Path != "" {
			note(p.Path, p.Path)
		}
	}
}

// decrypt returns the plain text of the file at p, if it is one that may be
// encrypted.
func (f *kustomizeFS) decrypt(p string, data []byte) ([]byte, error) {
	name, ok := f.encrypted[p]
	if !ok {
		return data, nil
	}
	real, _, err := f.job.src.stat(p)
	if err != nil {
		return nil, err
	}
	var plain []byte
	if remote, ok := f.job.req.Decrypt.(*remoteDecrypter); ok {
		plain, err = remote.decrypt(real, name)
	} else {
		plain, err = f.job.req.Decrypt.Decrypt(data, name)
	}
	if err != nil {
		return nil, decryptError(real, err)
	}
	if string(plain) != string(data) {
		f.job.opened[p] = plain
	}
	return plain, nil
}

// decryptError is of a file that cannot be decrypted.
func decryptError(file string, err error) *Error {
	if e := asError(err); e != nil {
		return e
	}
	e := NewError(DecryptFailed, file, 0, "it cannot be decrypted: %v", err)
	var hinted core.Hinted
	if errors.As(err, &hinted) {
		e.hint = hinted.Hint()
	}
	return e
}

// remoteDecrypter is the pool's, as a worker sees it. The pool reads the file
// itself: a worker cannot have anything else decrypted.
type remoteDecrypter struct{ tree *remoteTree }

var _ Decrypter = (*remoteDecrypter)(nil)

// Decrypt implements Decrypter; the file's path is needed instead.
func (*remoteDecrypter) Decrypt([]byte, string) ([]byte, error) { return nil, errNoAnswer }

// Identity implements Decrypter. The pool makes the key.
func (*remoteDecrypter) Identity() string { return "" }

func (d *remoteDecrypter) decrypt(p, name string) ([]byte, error) {
	a, err := d.tree.query(&queryMessage{Op: opDecrypt, Path: p, Name: name})
	if err != nil {
		return nil, err
	}
	if a.Error != nil {
		return nil, a.Error.err()
	}
	return a.Content, nil
}

// decrypt answers a worker that needs a file's plain text.
func (s *session) decrypt(tree core.Tree, q *queryMessage, a *answerMessage) error {
	read := *q
	read.Op = opRead
	if err := s.ask(tree, &read, a); err != nil || a.Content == nil {
		return err
	}
	plain, err := s.decrypter.Decrypt(a.Content, q.Name)
	if err != nil {
		e := decryptError(q.Path, err)
		a.Content, a.Error = nil, &errorMessage{Reason: e.Reason, Path: e.Path, Msg: e.Msg, Hint: e.hint}
		return nil
	}
	s.decrypted = s.decrypted || string(plain) != string(a.Content)
	a.Content = plain
	return nil
}

// clearSecrets are the Secrets among objects that hold a value which stands in
// the source in clear: neither the object is encrypted (by sops), nor does the
// value come from a file that was opened. A value that is nothing but variables
// to be substituted is none.
func clearSecrets(objects []*unstructured.Unstructured, opened map[string][]byte) []core.ObjectRef {
	known := map[string]bool{"": true}
	for _, content := range opened {
		known[string(content)] = true
		for line := range strings.SplitSeq(string(content), "\n") {
			if _, value, ok := strings.Cut(line, "="); ok { // of an env file
				known[strings.TrimSpace(value)] = true
				known[strings.Trim(strings.TrimSpace(value), `"'`)] = true
			}
		}
	}
	var refs []core.ObjectRef
	for _, o := range objects {
		gvk := o.GroupVersionKind()
		if gvk.Group != "" || gvk.Kind != "Secret" || o.Object["sops"] != nil {
			continue
		}
		if inClear(o, known) {
			refs = append(refs, core.ObjectRef{Version: gvk.Version, Kind: gvk.Kind, Namespace: o.GetNamespace(), Name: o.GetName()})
		}
	}
	return refs
}

func inClear(secret *unstructured.Unstructured, known map[string]bool) bool {
	for _, field := range []string{"data", "stringData"} {
		values, ok := secret.Object[field].(map[string]any)
		if !ok && secret.Object[field] != nil {
			return true // of another type, which the API server refuses
		}
		for _, v := range values {
			s, ok := v.(string)
			if v != nil && !ok {
				return true
			}
			if plain, err := base64.StdEncoding.DecodeString(strings.TrimSpace(s)); field == "data" && err == nil {
				s = string(plain)
			}
			if !known[s] && !onlyVariables.MatchString(s) {
				return true
			}
		}
	}
	return false
}

// onlyVariables is a value that Git does not hold: "${db_password}".
var onlyVariables = regexp.MustCompile(`^(\$\{[A-Za-z_][A-Za-z0-9_]*\})+$`)
