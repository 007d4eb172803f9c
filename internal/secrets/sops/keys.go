package sops

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"filippo.io/age"
	agearmor "filippo.io/age/armor"
	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
)

// The names of entries that hold keys, as Flux has them in the Secret that a
// Kustomization's decryption.secretRef names.
const (
	ageFile = ".agekey"
	pgpFile = ".asc"
)

// Keys are private keys, by which files are decrypted. They are safe for
// concurrent use.
type Keys struct {
	age    []age.Identity
	pgp    openpgp.EntityList
	digest [sha256.Size]byte
}

// ParseKeys reads the entries of a Secret that are called *.agekey (an age key
// file) or *.asc (armored PGP private keys without a passphrase), and passes
// over the others. No error quotes an entry.
func ParseKeys(entries map[string][]byte) (*Keys, error) {
	k := &Keys{}
	h := sha256.New()
	fmt.Fprint(h, "fairway sops keys\n")
	names := make([]string, 0, len(entries))
	for name := range entries {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		var err error
		switch path.Ext(name) {
		case ageFile:
			err = k.addAge(entries[name])
		case pgpFile:
			err = k.addPGP(entries[name])
		default:
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("entry %q %w", name, err)
		}
		fmt.Fprintf(h, "%d %d\n%s%s", len(name), len(entries[name]), name, entries[name])
	}
	if len(k.age)+len(k.pgp) == 0 {
		return nil, errors.New("there is no entry *.agekey or *.asc with a private key")
	}
	h.Sum(k.digest[:0])
	return k, nil
}

// Digest identifies the keys. It is as secret as they are: who knows it can
// tell whether some keys are these.
func (k *Keys) Digest() [sha256.Size]byte { return k.digest }

func (k *Keys) addAge(text []byte) error {
	if bytes.Contains(text, []byte("AGE-PLUGIN-")) {
		return errors.New("is a key of an age plugin, which is not supported")
	}
	ids, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil {
		return errors.New("is no age key file") // the error may quote the key
	}
	k.age = append(k.age, ids...)
	return nil
}

func (k *Keys) addPGP(text []byte) error {
	found := false
	for r := bytes.NewReader(text); ; {
		block, err := armor.Decode(r)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return errors.New("is not an armored PGP key")
		}
		ring, err := openpgp.ReadKeyRing(block.Body)
		if err != nil {
			return errors.New("cannot be read as a PGP key ring")
		}
		for _, e := range ring {
			if e.PrivateKey == nil {
				continue
			}
			if e.PrivateKey.Encrypted {
				return errors.New("is protected by a passphrase: export the key without one")
			}
			found = true
			k.pgp = append(k.pgp, e)
		}
	}
	if !found {
		return errors.New("holds no PGP private key")
	}
	return nil
}

// maxDataKey bounds what a master key may decrypt to.
const maxDataKey = 1 << 10

// dataKey recovers the key of a file's values.
func (k *Keys) dataKey(md *metadata) ([]byte, error) {
	var parts [][]byte
	var wanted []string
	for _, g := range md.groups {
		if part := k.part(g); part != nil {
			parts = append(parts, part)
			continue
		}
		for _, m := range g.keys {
			wanted = append(wanted, m.kind+" "+clip(m.id))
		}
		for _, kind := range g.others {
			wanted = append(wanted, kind+" (not supported)")
		}
	}
	if len(parts) < md.threshold {
		const most = 10
		if len(wanted) > most {
			wanted = append(wanted[:most], "…")
		}
		return nil, errorf(NoKey, "none of our keys fits; it is encrypted to %s", strings.Join(wanted, ", "))
	}
	if len(md.groups) == 1 {
		return parts[0], nil
	}
	return combine(parts)
}

// clip bounds a public name of a key, which comes from the file.
func clip(id string) string {
	const longest = 100
	if len(id) > longest {
		id = id[:longest]
	}
	return strings.ToValidUTF8(strings.Join(strings.Fields(id), " "), "")
}

// part is what one of the group's master keys opens to, or nil.
func (k *Keys) part(g group) []byte {
	for _, m := range g.keys {
		var part []byte
		var err error
		if m.kind == "age" {
			part, err = k.openAge(m.encrypted)
		} else {
			part, err = k.openPGP(m.encrypted)
		}
		if err == nil && len(part) > 0 {
			return part
		}
	}
	return nil
}

func (k *Keys) openAge(armored string) ([]byte, error) {
	if len(k.age) == 0 {
		return nil, errors.New("no age key")
	}
	r, err := age.Decrypt(agearmor.NewReader(strings.NewReader(armored)), k.age...)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(r, maxDataKey))
}

func (k *Keys) openPGP(armored string) ([]byte, error) {
	if len(k.pgp) == 0 {
		return nil, errors.New("no PGP key")
	}
	block, err := armor.Decode(strings.NewReader(armored))
	if err != nil {
		return nil, err
	}
	m, err := openpgp.ReadMessage(block.Body, k.pgp, nil, nil)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(m.UnverifiedBody, maxDataKey))
}
