package identity

import (
	"cmp"
	"time"

	"k8s.io/utils/clock"
)

// Audience is the audience of tokens that are good for Fairway and for nothing
// else: the Kubernetes API refuses them.
const Audience = "fairway"

// Options are the knobs of Kubernetes. The zero value is the defaults.
type Options struct {
	// TTL is for how long a confirmed token, or a permission to read, is not
	// asked for again. Default 10 s. Permission for anything but reading is
	// asked for every time.
	TTL time.Duration
	// RefusalTTL is the same for refusals. Default 2 s: short, because a robot
	// that was just given its permission must not wait.
	RefusalTTL time.Duration
	// StaleReads is for how long what was confirmed goes on for reads while the
	// API server is away. Default 5 min.
	StaleReads time.Duration
	// Timeout bounds one question to the API server. Default 3 s.
	Timeout time.Duration
	// Concurrency bounds the questions under way at once. Default 64.
	Concurrency int
	// Entries bounds each cache. Default 8192.
	Entries int
	// FailureBurst and FailureEvery limit how often one remote address may
	// present new wrong tokens: so many at once, then one each so often.
	// Default 30, 1 s.
	FailureBurst int
	FailureEvery time.Duration
	// Clock is for tests. Default the real one.
	Clock clock.PassiveClock
}

func (o Options) withDefaults() Options {
	o.TTL = cmp.Or(o.TTL, 10*time.Second)
	o.RefusalTTL = cmp.Or(o.RefusalTTL, 2*time.Second)
	o.StaleReads = cmp.Or(o.StaleReads, 5*time.Minute)
	o.Timeout = cmp.Or(o.Timeout, 3*time.Second)
	o.Concurrency = cmp.Or(o.Concurrency, 64)
	o.Entries = cmp.Or(o.Entries, 8192)
	o.FailureBurst = cmp.Or(o.FailureBurst, 30)
	o.FailureEvery = cmp.Or(o.FailureEvery, time.Second)
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	return o
}
