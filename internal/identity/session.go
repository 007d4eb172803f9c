package identity

import (
	"context"
	"time"

	"k8s.io/client-go/kubernetes"
)

// sessionTTL is a working day.
const sessionTTL = 12 * time.Hour

// Session returns a token of the account, Operator or Local, for one session of
// the UI. EnsureOperator or EnsureLocal must have made it.
func Session(ctx context.Context, client kubernetes.Interface, account string) (Token, error) {
	return requestToken(ctx, client, SystemNamespace, account, sessionTTL, Audience)
}
