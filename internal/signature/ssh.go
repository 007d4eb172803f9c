package signature

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"slices"

	"golang.org/x/crypto/ssh"
)

// sshMagic begins a signature, and what is signed (PROTOCOL.sshsig of OpenSSH).
const sshMagic = "SSHSIG"

// sshNamespace is Git's, so that what was signed for something else is no
// commit.
const sshNamespace = "git"

// sshSignature is a signature without its magic.
type sshSignature struct {
	Version   uint32
	PublicKey []byte
	Namespace string
	Reserved  string
	Hash      string
	Signature []byte
}

// sshSigned is what was signed, without its magic.
type sshSigned struct {
	Namespace string
	Reserved  string
	Hash      string
	Digest    []byte
}

func (k *Keys) checkSSH(payload, sig []byte) (Signer, error) {
	block, _ := pem.Decode(append(slices.Clip(sig), '\n')) // what is behind it is not ours
	if block == nil || !bytes.HasPrefix(block.Bytes, []byte(sshMagic)) {
		return Signer{}, errors.New("it cannot be read")
	}
	var s sshSignature
	if err := ssh.Unmarshal(block.Bytes[len(sshMagic):], &s); err != nil {
		return Signer{}, fmt.Errorf("it cannot be read: %w", err)
	}
	if s.Version != 1 || s.Namespace != sshNamespace {
		return Signer{}, fmt.Errorf("it is of version %d for %q, and not of version 1 for %q", s.Version, s.Namespace, sshNamespace)
	}
	key, err := ssh.ParsePublicKey(s.PublicKey)
	if err != nil {
		return Signer{}, fmt.Errorf("its key cannot be read: %w", err)
	}
	fingerprint := ssh.FingerprintSHA256(key)
	trusted := false
	for _, t := range k.ssh {
		trusted = trusted || bytes.Equal(t.Marshal(), key.Marshal())
	}
	if !trusted {
		return Signer{}, fmt.Errorf("its key %s is not trusted", fingerprint)
	}
	var h hash.Hash
	switch s.Hash {
	case "sha256":
		h = sha256.New()
	case "sha512":
		h = sha512.New()
	default:
		return Signer{}, fmt.Errorf("its hash %q is not known", s.Hash)
	}
	h.Write(payload)
	var blob ssh.Signature
	if err := ssh.Unmarshal(s.Signature, &blob); err != nil {
		return Signer{}, fmt.Errorf("it cannot be read: %w", err)
	}
	if blob.Format == ssh.KeyAlgoRSA { // of SHA-1, which the protocol excludes
		return Signer{}, errors.New("it is of RSA with SHA-1")
	}
	signed := append([]byte(sshMagic), ssh.Marshal(sshSigned{s.Namespace, s.Reserved, s.Hash, h.Sum(nil)})...)
	if err := key.Verify(signed, &blob); err != nil {
		return Signer{}, fmt.Errorf("it is not of this: %w", err)
	}
	return Signer{Key: fingerprint, Primary: fingerprint}, nil
}
