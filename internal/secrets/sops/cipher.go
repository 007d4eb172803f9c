package sops

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// cipherText begins every encrypted value.
const cipherText = "ENC[AES256_GCM,"

// encryptedValue is how a value stands in a file.
var encryptedValue = regexp.MustCompile(`^ENC\[AES256_GCM,data:(.+),iv:(.+),tag:(.+),type:(.+)\]`)

// open decrypts one value, which stands at path. Empty values are not
// encrypted.
func open(text string, key []byte, path string) (any, error) {
	if text == "" {
		return "", nil
	}
	m := encryptedValue.FindStringSubmatch(text)
	if m == nil {
		return nil, errorf(Malformed, "the value is not encrypted as the file's metadata say")
	}
	var parts [3][]byte // data, iv, tag
	for i := range parts {
		var err error
		if parts[i], err = base64.StdEncoding.DecodeString(m[i+1]); err != nil || len(parts[i]) == 0 {
			return nil, errorf(Malformed, "the encrypted value is cut off or mangled")
		}
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, errorf(Malformed, "the data key has not the length of one")
	}
	gcm, err := cipher.NewGCMWithNonceSize(block, len(parts[1]))
	if err != nil {
		return nil, errorf(Malformed, "the encrypted value has no nonce")
	}
	plain, err := gcm.Open(nil, parts[1], append(parts[0], parts[2]...), []byte(path))
	if err != nil {
		return nil, errorf(Tampered, "the encrypted value is not one that belongs here")
	}
	return typed(string(plain), m[4])
}

// typed gives a decrypted value its type back.
func typed(text, kind string) (v any, err error) {
	switch kind {
	case "str", "bytes":
		return text, nil
	case "int":
		v, err = strconv.Atoi(text)
	case "float":
		v, err = strconv.ParseFloat(text, 64)
	case "bool":
		v, err = strconv.ParseBool(text)
	case "time":
		var t time.Time
		err = t.UnmarshalText([]byte(text))
		v = t
	case "comment":
		return comment{text: text}, nil
	default:
		return nil, errorf(Malformed, "the encrypted value has a type that sops does not have")
	}
	if err != nil {
		return nil, errorf(Malformed, "the encrypted value is not of its type")
	}
	return v, nil
}

// isCipherText says whether a value looks encrypted.
func isCipherText(v any) bool {
	s, _ := v.(string)
	return strings.HasPrefix(s, cipherText)
}
