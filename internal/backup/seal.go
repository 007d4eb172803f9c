package backup

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
)

// ParseRecipients reads age recipients, as --recipient and a recipients file
// have them: one a line, with comments.
func ParseRecipients(text string) ([]age.Recipient, error) {
	all, err := age.ParseRecipients(strings.NewReader(text))
	if err != nil {
		// What age says has the line in it, which may be the other half.
		return nil, errors.New("a recipient cannot be read: want age1…, the public half that age-keygen prints")
	}
	return all, nil
}

// ParseIdentities reads a file of age identities. What is in it never is part
// of an error.
func ParseIdentities(r io.Reader) ([]age.Identity, error) {
	all, err := age.ParseIdentities(io.LimitReader(r, mib))
	if err != nil {
		return nil, errors.New("the identities cannot be read: want a file as age-keygen makes it")
	}
	return all, nil
}

// seal encrypts what is written to it until it is closed.
func seal(to io.Writer, recipients []age.Recipient) (io.WriteCloser, error) {
	w, err := age.Encrypt(to, recipients...)
	if err != nil {
		return nil, fmt.Errorf("encrypting the secrets: %w", err)
	}
	return w, nil
}

// unseal decrypts. What none of the identities opens is an *Error.
func unseal(from io.Reader, identities []age.Identity) (io.Reader, error) {
	r, err := age.Decrypt(from, identities...)
	var wrong *age.NoIdentityMatchError
	switch {
	case errors.As(err, &wrong):
		return nil, &Error{
			Reason: "has its secrets encrypted to other keys than those given",
			hint:   "name the file with the key of a --recipient that it was made with: --identity",
		}
	case err != nil:
		return nil, Bad(MemberSecrets, err)
	}
	return r, nil
}
