// Package sealed opens SealedSecrets (bitnami.com/v1alpha1) and serves what
// kubeseal asks for, with the keys, labels, annotations and paths of
// bitnami-labs/sealed-secrets, whose crypto it uses.
//
// It knows no API server: keys come in as Secrets and go out as Secrets. No
// error of this package holds a value.
package sealed
