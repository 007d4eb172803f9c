// Package sops decrypts what Mozilla's sops has encrypted, with age and PGP
// keys, in memory.
//
// It reads sops' five file formats, and gives byte for byte what `sops decrypt`
// prints; a test compares the two. It is not sops' own library, which cannot be
// imported without the clients of five clouds, and which takes hostile input
// (YAML aliases, comments) less carefully than a server has to.
//
// The format: each value is encrypted by AES-256-GCM under one data key, with
// the path to the value as additional data; the key "sops" holds the data key,
// encrypted to each master key, and a MAC over all values.
//
// No error of this package holds a value of the file.
package sops
