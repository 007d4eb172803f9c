package signature

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
)

// UnsignedError says that there is no signature.
type UnsignedError struct{ What string }

func (e *UnsignedError) Error() string { return e.What + " is not signed" }

// UntrustedError says that there is a signature, and why it does not count.
type UntrustedError struct {
	What string
	Err  error
}

func (e *UntrustedError) Error() string {
	return fmt.Sprintf("the signature of %s does not count: %v", e.What, e.Err)
}

func (e *UntrustedError) Unwrap() error { return e.Err }

// The beginnings of signatures.
const (
	beginPGP = "-----BEGIN PGP SIGNATURE-----"
	beginSSH = "-----BEGIN SSH SIGNATURE-----"
)

var errTwoSignatures = errors.New("there is more than one")

// Commit says who has signed a commit, of which raw is the object as Git has
// it. Errors: *UnsignedError, *UntrustedError.
func (k *Keys) Commit(raw []byte) (Signer, error) {
	payload, sig, err := splitCommit(raw)
	if err != nil {
		return Signer{}, &UntrustedError{"the commit", err}
	}
	return k.check("the commit", payload, sig)
}

// Tag says who has signed an annotated tag. Errors: *UnsignedError,
// *UntrustedError.
func (k *Keys) Tag(raw []byte) (Signer, error) {
	payload, sig := splitTag(raw)
	return k.check("the tag", payload, sig)
}

// TagOf is what an annotated tag says that it is: the object that it is of, and
// its own name.
func TagOf(raw []byte) (object, name string) {
	header, _, _ := bytes.Cut(raw, []byte("\n\n"))
	for line := range strings.SplitSeq(string(header), "\n") {
		switch key, value, _ := strings.Cut(line, " "); {
		case key == "object" && object == "":
			object = value
		case key == "tag" && name == "":
			name = value
		}
	}
	return object, name
}

// splitCommit takes the signature out of a commit's header: the field gpgsig,
// whose further lines begin with a space. What is left was signed.
func splitCommit(raw []byte) (payload, sig []byte, err error) {
	header, message, _ := bytes.Cut(raw, []byte("\n\n"))
	found, inside := 0, false
	for line := range bytes.SplitAfterSeq(append(bytes.Clone(header), '\n'), []byte{'\n'}) {
		key, value, _ := bytes.Cut(line, []byte{' '})
		switch {
		case inside && len(line) > 0 && line[0] == ' ':
			sig = append(sig, line[1:]...)
			continue
		case string(key) == "gpgsig" || string(key) == "gpgsig-sha256":
			if found++; found > 1 {
				return nil, nil, errTwoSignatures
			}
			inside, sig = true, append(sig, value...)
			continue
		}
		inside = false
		payload = append(payload, line...)
	}
	payload = append(payload, '\n')
	return append(payload, message...), sig, nil
}

// splitTag takes the signature off the end of a tag's message.
func splitTag(raw []byte) (payload, sig []byte) {
	at := -1
	for _, begin := range []string{beginPGP, beginSSH} {
		if i := bytes.LastIndex(raw, []byte("\n"+begin)); i > at {
			at = i
		}
	}
	if at < 0 {
		return raw, nil
	}
	return raw[:at+1], raw[at+1:]
}

func (k *Keys) check(what string, payload, sig []byte) (Signer, error) {
	sig = bytes.TrimSpace(sig)
	var signer Signer
	var err error
	switch {
	case len(sig) == 0:
		return Signer{}, &UnsignedError{what}
	case bytes.HasPrefix(sig, []byte(beginPGP)):
		signer, err = k.checkPGP(payload, sig)
	case bytes.HasPrefix(sig, []byte(beginSSH)):
		signer, err = k.checkSSH(payload, sig)
	default:
		err = errors.New("it is neither of OpenPGP nor of SSH")
	}
	if err != nil {
		return Signer{}, &UntrustedError{what, err}
	}
	return signer, nil
}

func (k *Keys) checkPGP(payload, sig []byte) (Signer, error) {
	block, err := armor.Decode(bytes.NewReader(sig))
	if err != nil {
		return Signer{}, fmt.Errorf("it cannot be read: %w", err)
	}
	s, by, err := openpgp.VerifyDetachedSignature(k.pgp, bytes.NewReader(payload), block.Body, nil)
	if err != nil {
		return Signer{}, fmt.Errorf("none of the trusted keys has made it, or not of this: %w", err)
	}
	signer := Signer{Primary: strings.ToUpper(fmt.Sprintf("%x", by.PrimaryKey.Fingerprint))}
	signer.Key = signer.Primary
	if s.IssuerKeyId != nil {
		for _, key := range by.Subkeys {
			if key.PublicKey.KeyId == *s.IssuerKeyId {
				signer.Key = strings.ToUpper(fmt.Sprintf("%x", key.PublicKey.Fingerprint))
			}
		}
	}
	return signer, nil
}
