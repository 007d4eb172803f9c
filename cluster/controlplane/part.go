package controlplane

import (
	"context"
	"fmt"
	"time"

	"k8s.io/klog/v2"
)

// part is a component in its own goroutine, with its own end: the parts stop
// one after the other and not at a signal all at once.
type part struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

func startPart(name string, run func(context.Context) error) *part {
	ctx, cancel := context.WithCancel(context.Background())
	p := &part{name: name, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.err = run(ctx)
	}()
	return p
}

// ended says whether the part has ended, and why; a part that ends without an
// error and without being asked to is an error, too.
func (p *part) ended() (error, bool) {
	select {
	case <-p.done:
	default:
		return nil, false
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w", p.name, p.err), true
	}
	return fmt.Errorf("%s ended", p.name), true
}

// stopParts asks all to end and waits for them, but no longer than timeout.
func stopParts(timeout time.Duration, parts ...*part) {
	for _, p := range parts {
		p.cancel()
	}
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	for _, p := range parts {
		select {
		case <-p.done:
		case <-deadline.C:
			klog.Background().Info("Stopping takes too long, going on", "part", p.name)
			return
		}
	}
}
