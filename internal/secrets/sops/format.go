package sops

import (
	"bytes"
	"strings"
)

// Format is one of sops' file formats.
type Format string

// The formats.
const (
	YAML   Format = "YAML"
	JSON   Format = "JSON"
	Dotenv Format = "dotenv"
	INI    Format = "INI"
	Binary Format = "binary"
)

// FormatOf is the format of a file, or of a Secret's key, of this name, as
// kustomize-controller has it (internal/decryptor, formatForPath).
func FormatOf(name string) Format {
	for _, e := range []struct {
		suffix string
		format Format
	}{
		{".yaml", YAML}, {".yml", YAML}, {".json", JSON}, {".env", Dotenv}, {".ini", INI},
		{".dockerconfigjson", JSON}, // the key of a Secret of this type
	} {
		if strings.HasSuffix(name, e.suffix) {
			return e.format
		}
	}
	return Binary
}

// Encrypted says whether data carries the mark of a file that sops has
// encrypted in the format (kustomize-controller's sopsFormatToMarkerBytes).
func Encrypted(data []byte, f Format) bool {
	var mark string
	switch f {
	case YAML:
		// JSON is YAML; sops itself writes each format in its own way.
		return bytes.Contains(data, []byte("mac: ENC[")) || bytes.Contains(data, []byte(`mac: "ENC[`))
	case JSON, Binary:
		mark = `"mac": "ENC[`
	case Dotenv:
		mark = "sops_mac=ENC["
	case INI:
		mark = "[sops]"
	}
	return bytes.Contains(data, []byte(mark))
}

// store reads and writes a format. Reading gives one branch a document.
type store struct {
	read  func(data []byte) ([]branch, error)
	write func(branches []branch) ([]byte, error)
	// metadata takes sops' metadata out of the branches.
	metadata func(branches []branch) (any, bool)
}

func (f Format) store() store {
	switch f {
	case YAML:
		return store{readYAML, writeYAML, nested}
	case JSON:
		return store{readJSON, writeJSON, nested}
	case Dotenv:
		return store{readDotenv, writeDotenv, flatMetadata}
	case INI:
		return store{readINI, writeINI, iniMetadata}
	default:
		return store{readJSON, writeBinary, nested}
	}
}

// nested takes the key sops out of every document: the first one's counts.
func nested(branches []branch) (value any, found bool) {
	for i := range branches {
		v, ok := branches[i].take(metadataKey)
		if i == 0 {
			value, found = v, ok
		}
	}
	return value, found
}
