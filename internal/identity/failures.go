package identity

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/util/cache"

	"github.com/fairway-cd/fairway/internal/core"
)

// failures counts the wrong tokens of each remote address. Tokens cannot be
// guessed; this keeps those who try, or whose robot went mad, from keeping the
// API server busy for everybody else. A token that is known, or known to be
// wrong, is answered before and costs nothing, so neighbours behind one
// address go on.
type failures struct {
	options Options
	buckets *cache.LRUExpireCache // address → *rate.Limiter
	refill  time.Duration         // until a bucket is full again
}

func newFailures(o Options) *failures {
	return &failures{
		options: o,
		buckets: cache.NewLRUExpireCacheWithClock(o.Entries, o.Clock),
		refill:  time.Duration(o.FailureBurst) * o.FailureEvery,
	}
}

// ThrottledError says that an address has presented too many wrong tokens:
// HTTP 429. It is a core.ErrUnauthenticated, for those who do not care.
type ThrottledError struct {
	// RetryAfter is when to try again.
	RetryAfter time.Duration
}

func (e *ThrottledError) Error() string {
	return fmt.Sprintf("too many wrong tokens from this address; try again in %s", e.RetryAfter)
}

func (e *ThrottledError) Unwrap() error { return core.ErrUnauthenticated }

// After implements problem.Passing.
func (e *ThrottledError) After() time.Duration { return e.RetryAfter }

// check returns a *ThrottledError if the address has used up its failures.
func (f *failures) check(remote string) error {
	v, ok := f.buckets.Get(source(remote))
	if ok && v.(*rate.Limiter).TokensAt(f.options.Clock.Now()) < 1 {
		return &ThrottledError{RetryAfter: f.options.FailureEvery}
	}
	return nil
}

// add counts one failure. Two first failures at once may count as one.
func (f *failures) add(remote string) {
	key := source(remote)
	bucket := rate.NewLimiter(rate.Every(f.options.FailureEvery), f.options.FailureBurst)
	if v, ok := f.buckets.Get(key); ok {
		bucket = v.(*rate.Limiter)
	}
	bucket.AllowN(f.options.Clock.Now(), 1)
	f.buckets.Add(key, bucket, f.refill)
}

// source is the address that a request came from as far as one party can
// choose it: an IPv6 customer has a /64.
func source(remote string) string {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return remote
	}
	addr := ap.Addr().Unmap().WithZone("")
	if addr.Is6() {
		if prefix, err := addr.Prefix(64); err == nil {
			return prefix.String()
		}
	}
	return addr.String()
}
