package controlplane

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// A burst of work makes much garbage in little time, and to collect it is a
// fifth of what the burst costs; what only runs is to be small. So there may be
// more of it while much is going on.
const (
	gcPercentBusy = 200
	gcPercentRest = 50
	// busyLook is how often it is looked, busyCycles how many collections since
	// then are much, and restAfter how many looks without much make a rest.
	busyLook   = 2 * time.Second
	busyCycles = 2
	restAfter  = 5
)

// collect sets how much garbage there may be by what is going on, until ctx
// ends. It begins with much: a start is a burst. GOGC, where set, is left alone.
func collect(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	debug.SetGCPercent(gcPercentBusy)
	go func() {
		tick := time.NewTicker(busyLook)
		defer tick.Stop()
		p := pace{seen: collections(), busy: true}
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			switch was := p.busy; {
			case p.look(collections()) == was:
			case was:
				debug.SetGCPercent(gcPercentRest)
				debug.FreeOSMemory()
				p.seen = collections()
			default:
				debug.SetGCPercent(gcPercentBusy)
			}
		}
	}()
}

// pace tells a burst from rest.
type pace struct {
	seen  uint64
	quiet int
	busy  bool
}

// look takes how many collections there were until now, and says whether much
// is going on.
func (p *pace) look(cycles uint64) bool {
	since := cycles - p.seen
	p.seen = cycles
	p.quiet++
	switch {
	case since >= busyCycles, p.busy && since > 0: // while busy they are rarer
		p.quiet, p.busy = 0, true
	case p.quiet >= restAfter:
		p.busy = false
	}
	return p.busy
}

// collections is how many garbage collections there were.
func collections() uint64 {
	s := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
