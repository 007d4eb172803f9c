package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/connrotation"

	"github.com/fairway-cd/fairway/internal/core/loopback"
)

// How a cluster is asked whether it is there.
const (
	// connectTimeout is for a connection, answerTimeout for the answer.
	connectTimeout = 5 * time.Second
	answerTimeout  = 5 * time.Second
	// askEvery is the pause while all is well, askAgain before a second try, and
	// longestPause what the pause grows to while it is away.
	askEvery     = 10 * time.Second
	askAgain     = time.Second
	longestPause = 30 * time.Second
	// slow is how long something may take before the cluster is asked whether it
	// is still there.
	slow = 2 * time.Second
	// turns is how many deliveries may be at work in one cluster.
	turns = 16
)

// Phase is how it stands with a cluster.
type Phase string

// The phases.
const (
	Connecting Phase = "Connecting"
	Connected  Phase = "Connected"
	Away       Phase = "Away"
)

// State is how it stands with a cluster, and since when.
type State struct {
	Phase Phase
	Since time.Time
	// Message is why it is away.
	Message string
	// Version is what it said last.
	Version string
}

// member is one cluster, by one credential.
type member struct {
	fleet   *Fleet
	cluster *Cluster
	turns   chan struct{}
	// nudged has it asked at once.
	nudged chan struct{}
	end    context.CancelFunc // of run; guarded by the fleet's mutex

	mu      sync.Mutex
	state   State
	session *session
	// asked is closed and replaced after each time that it was asked.
	asked chan struct{}
}

// session is while a cluster answers.
type session struct {
	*Parts
	ctx   context.Context
	close func()
}

func newMember(f *Fleet, c *Cluster) *member {
	return &member{
		fleet: f, cluster: c, turns: make(chan struct{}, turns), nudged: make(chan struct{}, 1),
		state: State{Phase: Connecting, Since: time.Now()}, asked: make(chan struct{}),
	}
}

func (m *member) current() *session {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.session
}

func (m *member) now() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state
}

// unreachable is why the member has no session, in the words of the cluster
// that somebody is bound to.
func (m *member) unreachable(c *Cluster) error {
	switch s := m.now(); s.Phase {
	case Away:
		return &AwayError{Cluster: c.String(), Since: s.Since, Reason: s.Message}
	default:
		// Connected: it is back since, which who is bound is being told.
		return &ConnectingError{Cluster: c.String()}
	}
}

// run keeps in touch with the cluster until ctx ends.
func (m *member) run(ctx context.Context) {
	defer m.lose(State{Phase: Connecting, Since: time.Now()})
	probe, err := newProbe(m.cluster.config)
	if err != nil {
		m.lose(State{Phase: Away, Since: time.Now(), Message: err.Error()})
		<-ctx.Done()
		return
	}
	defer probe.close()
	failures := 0
	for {
		answer, err := probe.ask(ctx)
		if err == nil {
			err = m.found(ctx, answer)
		}
		if ctx.Err() != nil {
			return
		}
		pause := askEvery
		if err == nil {
			failures = 0
		} else {
			failures++
			pause = askAgain
			// One question may get lost.
			if failures != 1 || m.current() == nil {
				m.lose(State{Phase: Away, Since: time.Now(), Message: err.Error()})
				pause = min(askAgain<<min(failures, 10), longestPause)
			}
		}
		m.tellAsked()
		if !m.wait(ctx, pause+rand.N(pause/10), failures == 0) {
			return
		}
	}
}

// wait is a pause, which a nudge ends where all was well.
func (m *member) wait(ctx context.Context, pause time.Duration, well bool) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	nudged := m.nudged
	if !well {
		nudged = nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-nudged:
	}
	return true
}

func (m *member) tellAsked() {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.asked)
	m.asked = make(chan struct{})
}

// nudge has the cluster asked whether it is there.
func (m *member) nudge() {
	select {
	case m.nudged <- struct{}{}:
	default:
	}
}

// found notes an answer, and opens a session where there is none.
func (m *member) found(ctx context.Context, answer *version.Info) error {
	if m.current() != nil {
		m.mu.Lock()
		m.state.Version = answer.GitVersion
		m.mu.Unlock()
		return nil
	}
	s, err := m.openSession(ctx)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.session, m.state = s, State{Phase: Connected, Since: time.Now(), Version: answer.GitVersion}
	m.mu.Unlock()
	slog.InfoContext(ctx, "a cluster answers", "cluster", m.cluster.Name, "server", m.cluster.Server, "version", answer.GitVersion)
	m.news()
	return nil
}

// lose ends the session. What was away stays away since then.
func (m *member) lose(next State) {
	m.mu.Lock()
	before, s := m.state, m.session
	next.Version = before.Version
	if before.Phase == Away && next.Phase == Away {
		// The first reason stays, too: who is told of it is told once.
		next.Since, next.Message = before.Since, before.Message
	}
	m.session, m.state = nil, next
	m.mu.Unlock()
	if s != nil {
		s.close()
	}
	if next.Phase != Away || before.Phase == Away {
		return
	}
	slog.Warn("a cluster is away", "cluster", m.cluster.Name, "server", m.cluster.Server, "reason", next.Message)
	m.news()
}

// news tells who is bound here that the state has changed.
func (m *member) news() {
	for _, owner := range m.fleet.owners(m) {
		m.fleet.tell(owner, Changed)
	}
	m.fleet.changed()
}

// openSession makes the parts and lets them run. Its connections are cut with
// its end, so that what does not heed a context ends too.
func (m *member) openSession(ctx context.Context) (*session, error) {
	cfg, connections := dialing(m.cluster.config)
	parts, err := m.fleet.open(cfg, m.cluster.Namespaces)
	if err != nil {
		return nil, fmt.Errorf("make its clients: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &session{Parts: parts, ctx: ctx}
	var loops sync.WaitGroup
	loops.Go(func() { _ = parts.Watcher.Run(ctx) })
	loops.Go(func() { m.fleet.forward(ctx, parts.Watcher.Changes()) })
	if parts.Releases != nil {
		loops.Go(func() { _ = parts.Releases.Run(ctx, m.fleet.released) })
	}
	s.close = func() {
		cancel()
		connections.CloseAll()
		loops.Wait()
		connections.CloseAll() // what was being made meanwhile
	}
	return s, nil
}

// dialing is a copy of cfg whose connections are bounded and can be cut.
func dialing(cfg *rest.Config) (*rest.Config, *connrotation.Dialer) {
	cfg = rest.CopyConfig(cfg)
	dialer := connrotation.NewDialer(connrotation.DialFunc(loopback.Dial((&net.Dialer{Timeout: connectTimeout, KeepAlive: 30 * time.Second}).DialContext)))
	cfg.Dial = dialer.DialContext
	cfg.QPS = -1
	cfg.WarningHandler = rest.NoWarnings{}
	return cfg, dialer
}

// probe asks a cluster for its version.
type probe struct {
	client      *discovery.DiscoveryClient
	connections *connrotation.Dialer
}

func newProbe(cfg *rest.Config) (*probe, error) {
	cfg, connections := dialing(cfg)
	cfg.Timeout = answerTimeout
	client, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	return &probe{client, connections}, nil
}

func (p *probe) close() { p.connections.CloseAll() }

// ask returns the version. A connection that has not answered is not asked
// again.
func (p *probe) ask(ctx context.Context) (*version.Info, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	body, err := p.client.RESTClient().Get().AbsPath("/version").Do(ctx).Raw()
	if err != nil {
		p.connections.CloseAll()
		return nil, errors.New(why(err))
	}
	info := &version.Info{}
	if err := json.Unmarshal(body, info); err != nil || info.GitVersion == "" {
		return nil, errors.New("it answers, but not as a Kubernetes API server does")
	}
	return info, nil
}

// why is the reason in a few words that stay the same while nothing changes,
// and with nothing of what the other side has written.
func why(err error) string {
	var op *net.OpError
	var dns *net.DNSError
	var status apierrors.APIStatus
	switch {
	case apierrors.IsUnauthorized(err):
		return "it does not accept the credential"
	case apierrors.IsForbidden(err):
		return "it does not let the credential ask for its version"
	case errors.As(err, &status) && status.Status().Code != 0:
		return fmt.Sprintf("it answers with status %d (%s)", status.Status().Code, http.StatusText(int(status.Status().Code)))
	case errors.As(err, &dns):
		return "there is no host " + dns.Name
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return "it does not answer in time"
	case errors.As(err, &op) && op.Op == "dial":
		return "no connection: " + op.Err.Error()
	}
	return certificateProblem(err)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// certificateProblem is the error without the address, which is known.
func certificateProblem(err error) string {
	var at *url.Error
	if errors.As(err, &at) {
		err = at.Err
	}
	return "no connection: " + err.Error()
}
