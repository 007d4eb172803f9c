package render

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash"
)

// The versions of what renders. They are part of each key, so that a new
// version of a tool renders everything once more; a test holds them to go.mod.
const (
	rendererVersion  = "2"
	kustomizeVersion = "v0.21.2"
	helmVersion      = "v4.2.0"
	jsonnetVersion   = "v0.22.0"
)

// parameters is what a request says beside its trees, in one canonical form.
func parameters(req Request) []byte {
	// Struct fields have an order and encoding/json sorts maps: the same
	// parameters are the same bytes.
	data, err := json.Marshal(struct {
		Path      string
		Refs      []string
		Tool      Tool
		Plain     PlainOptions
		Kustomize KustomizeOptions
		Helm      HelmOptions
		Decrypt   string `json:",omitempty"`
	}{req.Path, sortedKeys(req.Refs), req.Tool, req.Plain, req.Kustomize, req.Helm, req.keys()})
	if err != nil {
		panic(err) // strings, numbers and booleans only
	}
	return data
}

// keys identifies what files are decrypted with.
func (r Request) keys() string {
	if r.Decrypt == nil {
		return ""
	}
	return r.Decrypt.Identity()
}

func key(req Request, inputs []Input) string {
	h := versionHash()
	writeField(h, parameters(req))
	for _, in := range inputs {
		for _, s := range []string{in.Source, in.Path, string(in.Kind), in.Hash} {
			writeField(h, []byte(s))
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

func versionHash() hash.Hash {
	h := sha256.New()
	for _, v := range []string{rendererVersion, kustomizeVersion, helmVersion, jsonnetVersion} {
		writeField(h, []byte(v))
	}
	return h
}

// writeField hashes the length before the content, so that no two lists of
// fields hash alike.
func writeField(h hash.Hash, b []byte) {
	var n [8]byte
	for i := range n {
		n[i] = byte(uint64(len(b)) >> (8 * i))
	}
	h.Write(n[:])
	h.Write(b)
}
