package app

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/fairway-cd/fairway/internal/identity"
	"github.com/fairway-cd/fairway/internal/testkit"
)

// The token of this machine's clients is renewed when half of its life is
// over, and both are good.
func TestOperatorTokenIsRenewed(t *testing.T) {
	c := testkit.StartCluster(t, testkit.ClusterOptions{})
	for name, embedded := range map[string]bool{"local": false, "operator": true} {
		t.Run(name, func(t *testing.T) {
			inst, err := OpenInstance(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			s := NewServer(inst, func(Step) {})
			st := &stores{cluster: &cluster{embedded: embedded}, config: c.Config, client: c.Client}
			if err := s.issueOperator(t.Context(), st); err != nil {
				t.Fatal(err)
			}
			first, err := inst.Token()
			if err != nil {
				t.Fatal(err)
			}
			if left := time.Until(st.operatorDue); left < time.Hour {
				t.Errorf("a token of a year is renewed in %s", left)
			}
			st.operatorDue = time.Now()
			ctx, stop := context.WithCancel(t.Context())
			renewed := make(chan error)
			go func() { renewed <- s.renewOperator(ctx, st, time.Millisecond) }()
			var second string
			testkit.Eventually(t, "a new token", func() error {
				if second, err = inst.Token(); err == nil && second == first {
					err = errors.New("it is the old one")
				}
				return err
			})
			stop()
			if err := <-renewed; err != nil {
				t.Error(err)
			}
			access, err := identity.New(c.Config, identity.Options{})
			if err != nil {
				t.Fatal(err)
			}
			for _, token := range []string{first, second} {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://x", nil)
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Authorization", "Bearer "+token)
				if user, err := access.Authenticate(r); err != nil || user.Name != "system:serviceaccount:fairway-system:"+name {
					t.Errorf("the token is %q's, %v", user.Name, err)
				}
			}
		})
	}
}
