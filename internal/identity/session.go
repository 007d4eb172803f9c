package identity

import (
	"context"
	"time"

	"k8s.io/client-go/kubernetes"
)

// sessionTTL is a working day.
const sessionTTL = 12 * time.Hour

// OperatorSession returns a token of the operator for one session of the UI.
// EnsureOperator must have made the account.
func OperatorSession(ctx context.Context, client kubernetes.Interface) (Token, error) {
	return requestToken(ctx, client, SystemNamespace, "operator", sessionTTL, Audience)
}
