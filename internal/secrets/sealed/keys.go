package sealed

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bitnami-labs/sealed-secrets/pkg/crypto"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

// How sealing keys are found (pkg/controller/keys.go): Secrets of type
// kubernetes.io/tls whose label has the value "active". A key that somebody
// has marked as compromised has another.
const (
	LabelKey    = "sealedsecrets.bitnami.com/sealed-secrets-key"
	LabelActive = "active"
	keyPrefix   = "sealed-secrets-key"
)

// What the controller of sealed-secrets does by default: an RSA key of this
// size, a certificate that is valid for ten years, and a new key every 30 days.
const (
	KeyBits     = 4096
	validFor    = 10 * 365 * 24 * time.Hour
	RenewPeriod = 30 * 24 * time.Hour
)

// Keys are sealing keys. They do not change.
type Keys struct {
	// list has the newest first.
	list    []sealingKey
	private map[string]*rsa.PrivateKey
}

type sealingKey struct {
	cert   *x509.Certificate
	public *rsa.PublicKey
}

// ReadKeys reads the keys of Secrets. What is wrong with one of them is an
// error beside the keys of the others.
func ReadKeys(secrets []corev1.Secret) (*Keys, error) {
	k := &Keys{private: map[string]*rsa.PrivateKey{}}
	var errs []error
	for i := range secrets {
		if err := k.add(&secrets[i]); err != nil {
			errs = append(errs, fmt.Errorf("sealing key %s/%s: %w", secrets[i].Namespace, secrets[i].Name, err))
		}
	}
	slices.SortStableFunc(k.list, func(a, b sealingKey) int { return b.cert.NotBefore.Compare(a.cert.NotBefore) })
	return k, errors.Join(errs...)
}

func (k *Keys) add(s *corev1.Secret) error {
	parsed, err := keyutil.ParsePrivateKeyPEM(s.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return errors.New("tls.key is no private key") // the error may quote it
	}
	private, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return errors.New("tls.key is not an RSA key")
	}
	certs, err := cert.ParseCertsPEM(s.Data[corev1.TLSCertKey])
	if err != nil {
		return errors.New("tls.crt is no certificate")
	}
	if !private.PublicKey.Equal(certs[0].PublicKey) {
		return errors.New("tls.crt is not of tls.key")
	}
	name, err := crypto.PublicKeyFingerprint(&private.PublicKey)
	if err != nil {
		return errors.New("tls.key has no fingerprint")
	}
	k.private[name] = private
	k.list = append(k.list, sealingKey{certs[0], &private.PublicKey})
	return nil
}

// Empty says that there are none.
func (k *Keys) Empty() bool { return len(k.list) == 0 }

// Due is when a new key is to be made.
func (k *Keys) Due() time.Time {
	if k.Empty() {
		return time.Time{}
	}
	return k.list[0].cert.NotBefore.Add(RenewPeriod)
}

// Certificate is the newest key's, in PEM: what kubeseal seals with.
func (k *Keys) Certificate() []byte {
	if k.Empty() {
		return nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: cert.CertificateBlockType, Bytes: k.list[0].cert.Raw})
}

// NewKey makes a key as a Secret to be created in the namespace. It takes
// seconds of a processor.
func NewKey(ctx context.Context, namespace string, bits int) (*corev1.Secret, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	private, certificate, err := crypto.GeneratePrivateKeyAndCert(bits, validFor, "")
	if err != nil {
		return nil, fmt.Errorf("make a sealing key: %w", err)
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, GenerateName: keyPrefix,
			Labels: map[string]string{LabelKey: LabelActive},
		},
		Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{
			corev1.TLSPrivateKeyKey: pem.EncodeToMemory(&pem.Block{Type: keyutil.RSAPrivateKeyBlockType, Bytes: x509.MarshalPKCS1PrivateKey(private)}),
			corev1.TLSCertKey:       pem.EncodeToMemory(&pem.Block{Type: cert.CertificateBlockType, Bytes: certificate.Raw}),
		},
	}, nil
}

// open decrypts one value.
func (k *Keys) open(sealed, label []byte) ([]byte, error) {
	if k.Empty() {
		return nil, errors.New("there is no sealing key")
	}
	plain, err := crypto.HybridDecrypt(rand.Reader, k.private, sealed, label)
	if err != nil {
		return nil, errors.New("no key opens it: it was sealed for another cluster, namespace, name or scope")
	}
	return plain, nil
}

// seal encrypts a value with the newest key.
func (k *Keys) seal(plain, label []byte) ([]byte, error) {
	if k.Empty() {
		return nil, errors.New("there is no sealing key")
	}
	return crypto.HybridEncrypt(rand.Reader, k.list[0].public, plain, label)
}
