package git

import (
	"errors"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
)

// intake bounds what webhooks hold in memory until it is known who sent them:
// for all senders together, and for one of them. A request counts with what
// was read of it and not with what it announces, so that one that is slow, or
// stopped, is cheap, and there is room for thousands of these.
type intake struct {
	all, each int64

	mu     sync.Mutex
	held   int64
	source map[string]int64
}

const (
	// hookTime is how long a sender may take for all of its body. Forges give
	// up after ten seconds (GitHub, GitLab) or five (Gitea).
	hookTime = 10 * time.Second
	// hookCost is what a request counts before anything of it is read.
	hookCost = 64 << 10
	// intakeAll and intakeEach: 4,096 requests at once, 1,024 of one source;
	// or as many bodies as fit.
	intakeAll, intakeEach = 256 << 20, 64 << 20
)

func newIntake(all, each int64) *intake {
	return &intake{all: all, each: each, source: map[string]int64{}}
}

// take counts n more bytes of a source, where there is room for them.
func (i *intake) take(source string, n int64) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.held+n > i.all || i.source[source]+n > i.each {
		return &core.UnavailableError{What: "the webhook", Err: errors.New("too many are being received, try again")}
	}
	i.held += n
	i.source[source] += n
	return nil
}

func (i *intake) release(source string, n int64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.held -= n
	if i.source[source] -= n; i.source[source] == 0 {
		delete(i.source, source)
	}
}

// body reads a request's body within the bounds on size and room, and hands
// it to use; it counts until use returns.
func (i *intake) body(w http.ResponseWriter, r *http.Request, use func([]byte) error) error {
	source := sourceOf(r.RemoteAddr)
	var held int64
	defer func() { i.release(source, held) }()
	in := http.MaxBytesReader(w, r.Body, maxHookBody)
	control, until := http.NewResponseController(w), time.Now().Add(hookTime)
	var body []byte
	chunk := make([]byte, hookCost/2)
	for {
		if int64(len(body)+len(chunk)) > held {
			if err := i.take(source, hookCost); err != nil {
				return err
			}
			held += hookCost
		}
		_ = control.SetReadDeadline(until) // recorders in tests have none
		n, err := in.Read(chunk)
		body = append(body, chunk[:n]...)
		var over *http.MaxBytesError
		switch {
		case errors.Is(err, io.EOF):
			_ = control.SetReadDeadline(time.Time{})
			return use(body)
		case errors.As(err, &over):
			return &core.TooLargeError{What: "the webhook", Size: max(r.ContentLength, over.Limit+1), Limit: over.Limit}
		case err != nil:
			return &badRequest{http.StatusBadRequest, "the body cannot be read, or took longer than " + hookTime.String()}
		}
	}
}

// sourceOf is where a request comes from: the address, of IPv6 the network
// that one customer has.
func sourceOf(remote string) string {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return remote
	}
	address := at.Addr().Unmap().WithZone("")
	if address.Is6() {
		if network, err := address.Prefix(64); err == nil {
			return network.String()
		}
	}
	return address.String()
}
