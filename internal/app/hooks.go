package app

import (
	"context"
	"log/slog"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-cd/fairway/internal/identity"
)

// hookSecretName is the Secret, in the system namespace, with what senders of
// webhooks sign with: a key a kind of sender (github, gitlab, gitea, generic).
// A key may have further ones behind a dot (github.new), for a change of the
// secret without a gap.
const hookSecretName = "fairway-webhooks"

// hookSecrets returns the secrets of one kind of sender. Without any, all its
// webhooks are refused.
func (st *stores) hookSecrets(kind string) [][]byte {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	secret, err := st.client.CoreV1().Secrets(identity.SystemNamespace).Get(ctx, hookSecretName, metav1.GetOptions{})
	if err != nil {
		slog.Warn("webhook refused: its secret cannot be read", "secret", identity.SystemNamespace+"/"+hookSecretName, "error", err)
		return nil
	}
	var all [][]byte
	for key, value := range secret.Data {
		if name, _, _ := strings.Cut(key, "."); name == kind && len(value) > 0 {
			all = append(all, value)
		}
	}
	return all
}
