package backup

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// maxRecord bounds a line: an object is at most 1.5 MiB in etcd, and a file of
// the instance far less.
const maxRecord = 16 * mib

// Record is a line of MemberObjects and MemberSecrets: an object, or a file of
// the instance that is a secret.
type Record struct {
	Object *unstructured.Unstructured `json:"object,omitempty"`
	File   string                     `json:"file,omitempty"`
	Data   []byte                     `json:"data,omitempty"`
}

// Records writes lines.
type Records struct {
	enc    *json.Encoder
	closer io.Closer
	// Count is how many there are.
	Count int
}

// NewRecords writes to w, encrypted where there are recipients.
func NewRecords(w io.Writer, recipients []age.Recipient) (*Records, error) {
	if recipients == nil {
		return &Records{enc: json.NewEncoder(w)}, nil
	}
	sealed, err := seal(w, recipients)
	if err != nil {
		return nil, err
	}
	return &Records{enc: json.NewEncoder(sealed), closer: sealed}, nil
}

// Add writes a line.
func (r *Records) Add(one Record) error {
	r.Count++
	if err := r.enc.Encode(one); err != nil {
		return fmt.Errorf("writing the backup: %w", err)
	}
	return nil
}

// Close ends the encryption. It does not close what was written to.
func (r *Records) Close() error {
	if r.closer == nil {
		return nil
	}
	if err := r.closer.Close(); err != nil {
		return fmt.Errorf("encrypting the secrets: %w", err)
	}
	return nil
}

// ReadRecords calls do with each line of a member; identities open those of
// MemberSecrets, and are nil for the other.
func ReadRecords(r io.Reader, member string, identities []age.Identity, do func(Record) error) error {
	if identities != nil {
		var err error
		if r, err = unseal(r, identities); err != nil {
			return err
		}
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxRecord)
	for lines.Scan() {
		var one Record
		// The line may be a secret, and so may what is wrong with it.
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			return Bad(member, errors.New("a line of it is no object"))
		}
		if o := one.Object; o != nil && (o.GetKind() == "" || o.GetAPIVersion() == "" || o.GetName() == "") {
			return Bad(member, errors.New("a line of it is no object"))
		}
		if err := do(one); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return Bad(member, err)
	}
	return nil
}
