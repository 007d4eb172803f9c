package sops

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash"
	"strings"
	"time"
)

// MaxBytes is the size of a file that is decrypted, as in Flux.
const MaxBytes = 5 << 20

// maxValues and maxDepth bound what a file may hold.
const (
	maxValues = 1 << 20
	maxDepth  = 200
)

// Decrypt returns the plain text of a file, as `sops decrypt` prints it. It
// verifies the MAC over all values. Errors are *Error.
func Decrypt(data []byte, f Format, keys *Keys) (plainText []byte, err error) {
	if len(data) > MaxBytes {
		return nil, errorf(TooLarge, "the encrypted file has %d bytes, the limit is %d", len(data), MaxBytes)
	}
	s := f.store()
	branches, err := s.read(data)
	if err != nil {
		return nil, err
	}
	value, ok := s.metadata(branches)
	if !ok {
		return nil, errorf(Malformed, "the file is not encrypted by sops, or not as %s", f)
	}
	d, err := newDecryption(value, keys)
	if err != nil {
		return nil, err
	}
	for i := range branches {
		if _, err := d.branch(branches[i], nil, nil); err != nil {
			return nil, err
		}
	}
	if err := d.verify(); err != nil {
		return nil, err
	}
	return s.write(branches)
}

// EncryptedObject says whether an object is encrypted by sops as a whole.
func EncryptedObject(object map[string]any) bool {
	md, _ := object[metadataKey].(map[string]any)
	return text(md["mac"]) != ""
}

// DecryptObject returns an object of a manifest that sops has encrypted,
// without sops' metadata. Each value is authenticated together with its path;
// the MAC over the whole file is not looked at, for a build has changed what
// it is over (kustomize-controller does not either). Errors are *Error.
func DecryptObject(object map[string]any, keys *Keys) (map[string]any, error) {
	value, ok := object[metadataKey]
	if !ok {
		return nil, errorf(Malformed, "the object is not encrypted by sops")
	}
	d, err := newDecryption(value, keys)
	if err != nil {
		return nil, err
	}
	out := make(map[string]any, len(object))
	for key, v := range object {
		if key == metadataKey {
			continue
		}
		if out[key], err = d.object(v, []string{key}); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// decryption is that of one file.
type decryption struct {
	*metadata
	key []byte
	sum hash.Hash
}

func newDecryption(value any, keys *Keys) (*decryption, error) {
	md, err := readMetadata(value)
	if err != nil {
		return nil, err
	}
	d := &decryption{metadata: md, sum: sha512.New()}
	if d.key, err = keys.dataKey(md); err != nil {
		return nil, err
	}
	if md.macOnlyEncrypted {
		// So that it is never the MAC of a file in which it is over all values
		// (sops.go, MACOnlyEncryptedInitialization).
		start := sha256.Sum256([]byte("sops"))
		d.sum.Write(start[:])
	}
	return d, nil
}

// verify holds the file's MAC against the values that were decrypted.
func (d *decryption) verify() error {
	modified, err := time.Parse(time.RFC3339, d.modified)
	if err != nil {
		return errorf(Malformed, "lastmodified in the file's sops metadata is no time")
	}
	want, err := open(d.mac, d.key, modified.Format(time.RFC3339))
	if err != nil {
		return errorf(Tampered, "the file's MAC is not one of this file")
	}
	text, _ := want.(string)
	if have := fmt.Sprintf("%X", d.sum.Sum(nil)); subtle.ConstantTimeCompare([]byte(text), []byte(have)) != 1 {
		return errorf(Tampered, "the file's MAC does not match its values: it was changed without sops")
	}
	return nil
}

// branch decrypts the values of b in place.
func (d *decryption) branch(b branch, path []string, comments [][]string) (any, error) {
	comments = append(comments, nil)
	last := len(comments) - 1
	for i := range b {
		if c, ok := b[i].key.(comment); ok {
			comments[last] = append(comments[last], c.text)
			v, err := d.leaf(c, path, comments)
			if err != nil {
				return nil, err
			}
			if text, ok := v.(string); ok {
				v = comment{text: text, inline: c.inline}
			}
			if b[i].key, ok = v.(comment); !ok {
				return nil, errorf(Malformed, "a comment of the file was encrypted as something else")
			}
			continue
		}
		key, ok := b[i].key.(string)
		if !ok {
			return nil, errorf(Malformed, "the file has a key that is no string")
		}
		v, err := d.value(b[i].value, append(path, key), comments)
		if err != nil {
			return nil, err
		}
		b[i].value = v
		comments[last] = nil
	}
	return b, nil
}

func (d *decryption) list(list []any, path []string, comments [][]string) (any, error) {
	comments = append(comments, nil)
	last := len(comments) - 1
	for i, v := range list {
		c, isComment := v.(comment)
		if isComment {
			comments[last] = append(comments[last], c.text)
		}
		v, err := d.value(v, path, comments)
		if err != nil {
			return nil, err
		}
		list[i] = v
		if !isComment {
			comments[last] = nil
		}
	}
	return list, nil
}

func (d *decryption) value(v any, path []string, comments [][]string) (any, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case branch:
		return d.branch(v, path, comments)
	case []any:
		return d.list(v, path, comments)
	default:
		return d.leaf(v, path, comments)
	}
}

// leaf decrypts one value, if the rules say that it is encrypted, and adds it
// to the MAC.
func (d *decryption) leaf(v any, path []string, comments [][]string) (any, error) {
	c, isComment := v.(comment)
	encrypted := d.rules.encrypted(path, comments, isComment)
	if encrypted {
		opened, err := d.open(v, path)
		switch {
		case err != nil && !isComment:
			return nil, err
		case err != nil:
			// Older versions of sops left comments as they are.
			opened = c
		}
		v = opened
	}
	if _, isComment := v.(comment); isComment || d.macOnlyEncrypted && !encrypted {
		return v, nil
	}
	sum, ok := macBytes(v)
	if !ok {
		return nil, errorf(Malformed, "%s has a value of a kind that sops does not have", where(path))
	}
	d.sum.Write(sum)
	return v, nil
}

func (d *decryption) open(v any, path []string) (any, error) {
	s, ok := v.(string)
	if c, isComment := v.(comment); isComment {
		s, ok = c.text, true
	}
	if !ok {
		return nil, errorf(Malformed, "%s is not encrypted, which the file's metadata say it is", where(path))
	}
	opened, err := open(s, d.key, strings.Join(path, ":")+":")
	var e *Error
	if errors.As(err, &e) {
		return nil, errorf(e.Reason, "%s: %s", where(path), e.Msg)
	}
	return opened, err
}

// object decrypts a value of an object in a new one.
func (d *decryption) object(v any, path []string) (any, error) {
	if len(path) > maxDepth {
		return nil, errorf(TooLarge, "the object is more than %d levels deep", maxDepth)
	}
	switch v := v.(type) {
	case nil:
		return nil, nil
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, e := range v {
			var err error
			if out[key], err = d.object(e, append(path[:len(path):len(path)], key)); err != nil {
				return nil, err
			}
		}
		return out, nil
	case []any:
		out := make([]any, 0, len(v))
		for _, e := range v {
			e, err := d.object(e, path)
			if err != nil {
				return nil, err
			}
			out = append(out, e)
		}
		return out, nil
	}
	if !d.rules.encrypted(path, nil, false) {
		if isCipherText(v) {
			// A rule by comments, which a build has removed.
			return nil, errorf(Malformed, "%s is encrypted, which the rules in its sops metadata do not say", where(path))
		}
		return v, nil
	}
	opened, err := d.open(v, path)
	switch opened := opened.(type) {
	case int:
		return int64(opened), err
	case time.Time:
		return opened.Format(time.RFC3339Nano), err
	case comment:
		return opened.text, err
	default:
		return opened, err
	}
}

// where names the place of a value, which is no secret: keys are not encrypted.
func where(path []string) string {
	if len(path) == 0 {
		return "the file"
	}
	return clip(strings.Join(path, "."))
}
