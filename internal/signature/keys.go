// Package signature finds out who has signed a Git commit or tag: by OpenPGP
// keys, and by SSH keys as of Git 2.34. It reads objects as Git stores them,
// and trusts only the keys that it is given.
package signature

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp"
	"golang.org/x/crypto/ssh"

	"github.com/fairway-cd/fairway/internal/core"
)

// Keys are those that are trusted.
type Keys struct {
	pgp openpgp.EntityList
	ssh []ssh.PublicKey
}

// maxKeys bounds the text of all keys together.
const maxKeys = 1 << 20

// Add takes over the keys of a file: armored OpenPGP public keys, or, where the
// name ends in .sshpub, SSH keys in the form of authorized_keys.
func (k *Keys) Add(name string, data []byte) error {
	if len(data) > maxKeys {
		return &core.TooLargeError{What: name, Size: int64(len(data)), Limit: maxKeys}
	}
	if strings.HasSuffix(name, ".sshpub") {
		return k.addSSH(name, data)
	}
	for len(bytes.TrimSpace(data)) > 0 {
		// One file may hold several blocks; the reader takes the first.
		rest := []byte(nil)
		if i := bytes.Index(data, []byte(endOfKey)); i >= 0 {
			data, rest = data[:i+len(endOfKey)], data[i+len(endOfKey):]
		}
		ring, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(append(slices.Clip(data), '\n')))
		if err != nil {
			return fmt.Errorf("%s: is no armored OpenPGP public key: %w", name, err)
		}
		k.pgp = append(k.pgp, ring...)
		data = rest
	}
	return nil
}

const endOfKey = "-----END PGP PUBLIC KEY BLOCK-----"

func (k *Keys) addSSH(name string, data []byte) error {
	for len(bytes.TrimSpace(data)) > 0 {
		key, _, _, rest, err := ssh.ParseAuthorizedKey(data)
		if err != nil {
			return fmt.Errorf("%s: is no SSH public key: %w", name, err)
		}
		k.ssh, data = append(k.ssh, key), rest
	}
	return nil
}

// Empty says that nobody is trusted.
func (k *Keys) Empty() bool { return len(k.pgp)+len(k.ssh) == 0 }

// Signer is who has signed: the key that did and, of OpenPGP, the primary key
// that it belongs to, in upper-case hexadecimal; or the SSH key's fingerprint.
type Signer struct{ Key, Primary string }

func (s Signer) String() string { return s.Primary }

// Is says whether the signer is the key of that ID: the last 16 digits of a
// fingerprint, or more of it, as Argo CD's signatureKeys have it.
func (s Signer) Is(id string) bool {
	id = strings.ToUpper(strings.TrimPrefix(strings.TrimSpace(id), "0x"))
	if len(id) < 16 {
		return false
	}
	return strings.HasSuffix(s.Key, id) || strings.HasSuffix(s.Primary, id)
}
