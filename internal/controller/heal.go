package controller

import "time"

// The back-off of healing: at once, then 2 s × 3 up to 300 s, as Argo CD's
// code has it.
const (
	healFirst  = 2 * time.Second
	healFactor = 3
	healMax    = 300 * time.Second
	// healForget is how long a delivery must have been in sync for its next
	// drift to be healed at once again. Argo CD never forgets.
	healForget = time.Second
)

// healBackoff paces healing, so that two who want different things of one
// object do not fight at full speed. The zero value heals at once.
type healBackoff struct {
	attempts int
	last     time.Time
	// inSync is since when it has been in sync; zero while it is not.
	inSync time.Time
}

// drifted notes that it is out of sync, and returns how long its heal has to
// wait still.
func (h *healBackoff) drifted(now time.Time) time.Duration {
	if !h.inSync.IsZero() && now.Sub(h.inSync) >= healForget {
		h.attempts = 0
	}
	h.inSync = time.Time{}
	if h.attempts == 0 {
		return 0
	}
	return max(0, h.pause()-now.Sub(h.last))
}

// healed notes an attempt.
func (h *healBackoff) healed(now time.Time) {
	h.attempts++
	h.last = now
}

// synced notes that it is in sync.
func (h *healBackoff) synced(now time.Time) {
	if h.inSync.IsZero() {
		h.inSync = now
	}
}

// pause is how long to wait after the last attempt.
func (h *healBackoff) pause() time.Duration {
	p := healFirst
	for range h.attempts - 1 {
		if p *= healFactor; p >= healMax {
			return healMax
		}
	}
	return p
}
