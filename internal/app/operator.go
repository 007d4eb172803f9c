package app

import (
	"context"
	"log/slog"
	"time"

	"github.com/fairway-cd/fairway/internal/identity"
)

const (
	// operatorTTL is how long the operator's token is asked to live; the
	// cluster may give less.
	operatorTTL = 365 * 24 * time.Hour
	// operatorCheck is how often it is looked whether a new one is due.
	operatorCheck = time.Minute
)

// issueOperator makes the account of who runs the instance, and a new token of
// it, and writes that to where this machine's clients read it. Earlier tokens
// stay good until they expire.
func (s *Server) issueOperator(ctx context.Context, st *stores) error {
	ensure := identity.EnsureLocal
	if st.cluster.embedded {
		ensure = identity.EnsureOperator
	}
	token, err := ensure(ctx, st.client, operatorTTL)
	if err != nil {
		return err
	}
	s.update(func(state *State) {
		state.Token, state.TokenExpires = token.Value, token.Expires.UTC().Format(time.RFC3339)
	})
	st.operatorDue = halfway(time.Now(), token.Expires)
	if !st.cluster.embedded {
		return nil // people use the kubeconfig that was given
	}
	return s.inst.writeKubeconfig(st.config, token.Value)
}

// halfway is between two times.
func halfway(from, to time.Time) time.Time { return from.Add(to.Sub(from) / 2) }

// renewOperator has the operator's token renewed when half of its life is over,
// until ctx ends. It looks at the clock: a machine may have slept.
func (s *Server) renewOperator(ctx context.Context, st *stores, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			// Without the monotonic clock, which stands still meanwhile.
			if now.Round(0).Before(st.operatorDue.Round(0)) {
				continue
			}
			if err := s.issueOperator(ctx, st); err != nil && ctx.Err() == nil {
				slog.Error("renewing the operator's token", "error", err)
			}
		}
	}
}
