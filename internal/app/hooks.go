package app

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/fairway-cd/fairway/internal/identity"
)

// hookSecretName is the Secret, in the system namespace, with what senders of
// webhooks sign with: a key a kind of sender (github, gitlab, gitea, generic).
// A key may have further ones behind a dot (github.new), for a change of the
// secret without a gap.
const hookSecretName = "fairway-webhooks"

// hookSecretTime bounds one read of it.
const hookSecretTime = 3 * time.Second

// hookSecrets reads the secrets of webhooks. Those who ask while a read is
// under way share it, so that forged webhooks keep the API server busy with
// one question at a time.
type hookSecrets struct {
	client kubernetes.Interface
	reads  singleflight.Group
}

// of returns the secrets of one kind of sender; without any, all its webhooks
// are refused.
func (h *hookSecrets) of(ctx context.Context, kind string) ([][]byte, error) {
	read := h.reads.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hookSecretTime)
		defer cancel()
		return h.client.CoreV1().Secrets(identity.SystemNamespace).Get(ctx, hookSecretName, metav1.GetOptions{})
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case answer := <-read:
		if apierrors.IsNotFound(answer.Err) {
			return nil, nil
		}
		if answer.Err != nil {
			return nil, fmt.Errorf("reading Secret %s/%s: %w", identity.SystemNamespace, hookSecretName, answer.Err)
		}
		return secretsOf(answer.Val.(*corev1.Secret), kind), nil
	}
}

func secretsOf(secret *corev1.Secret, kind string) [][]byte {
	var all [][]byte
	for key, value := range secret.Data {
		if name, _, _ := strings.Cut(key, "."); name == kind && len(value) > 0 {
			all = append(all, value)
		}
	}
	return all
}
