package git

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"github.com/fairway-cd/fairway/internal/core"
)

const (
	// maxFetchRequest bounds what a fetching client may say it has and wants.
	maxFetchRequest = 64 << 20
	// idleTime is how long a client may take to send or take something.
	idleTime = 2 * time.Minute
	// slowestRate is how fast a body must come on the whole, in bytes a second.
	slowestRate = 16 << 10
	// drainTime is how long a client whose push is decided may go on sending.
	drainTime = 5 * time.Minute
)

// protocolHeader is what Git-Protocol may hold (gitprotocol-v2(5)): it becomes
// an environment variable.
var protocolHeader = regexp.MustCompile(`^[a-z0-9=:-]{1,64}$`)

func (s *server) command(ctx context.Context, r *http.Request, repo *repository, args ...string) *exec.Cmd {
	cmd := s.git.command(ctx, repo.dir, args...)
	if p := r.Header.Get("Git-Protocol"); protocolHeader.MatchString(p) {
		cmd.Env = append(cmd.Env, "GIT_PROTOCOL="+p)
	}
	return cmd
}

// advertise answers the first request of a fetch or push: what references
// there are, or with protocol 2, what the server can do.
func (s *server) advertise(ctx context.Context, w http.ResponseWriter, r *http.Request, repo *repository, service string) error {
	if service == receivePack {
		// Git shows its user what is said here, and not what is said later.
		if err := unix.Access(repo.dir, unix.W_OK); err != nil {
			return fmt.Errorf("looking whether a push can be stored: %w", err)
		}
	}
	cmd := s.command(ctx, r, repo, strings.TrimPrefix(service, "git-"), "--http-backend-info-refs", ".")
	tail := &tailWriter{limit: 4 << 10}
	cmd.Stderr = tail
	out := &answer{w: w, kind: "application/x-" + service + "-advertisement"}
	if p := r.Header.Get("Git-Protocol"); !strings.Contains(p, "version=2") || service == receivePack {
		out.prefix = pktLine("# service="+service+"\n") + "0000"
	}
	cmd.Stdout = out
	if err := cmd.Run(); err != nil && !out.begun {
		return &commandError{verb: service, err: err, stderr: tail.String()}
	}
	return nil
}

// upload serves a fetch.
func (s *server) upload(ctx context.Context, w http.ResponseWriter, r *http.Request, repo *repository) error {
	body, err := requestBody(w, r, maxFetchRequest)
	if err != nil {
		return err
	}
	cmd := s.command(ctx, r, repo, "upload-pack", "--stateless-rpc", "--strict", ".")
	tail := &tailWriter{limit: 4 << 10}
	out := &answer{w: w, kind: "application/x-" + uploadPack + "-result"}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = body, out, tail
	if err := cmd.Run(); err != nil && !out.begun {
		if body.err != nil {
			return body.err
		}
		return &commandError{verb: uploadPack, err: err, stderr: tail.String()}
	}
	return nil
}

// receive serves a push. Its events are on their way before the client has
// its answer.
func (s *server) receive(ctx context.Context, w http.ResponseWriter, r *http.Request, repo *repository, user core.User) error {
	limit := s.limitsOf(repo).PushBytes
	body, err := requestBody(w, r, limit+maxCommandBytes)
	if err != nil {
		return err
	}
	push, err := readCommands(body)
	if err != nil {
		return err
	}
	out := &answer{w: w, kind: "application/x-" + receivePack + "-result"}
	if refused, err := s.checkPush(repo, push); err != nil {
		return err
	} else if refused != nil {
		drain(w, r)
		_, err := io.WriteString(out, push.report(refused))
		return err
	}
	lock, err := repo.writing(ctx)
	if err != nil {
		return err
	}
	defer lock.release()
	if err := repo.noteDeletions(push.deletions(), user.Name); err != nil {
		return err
	}
	// The pack is counted here and not by receive.maxInputSize: of that, git
	// tells the client in four lines that the unpacker ended abnormally.
	body.left = limit
	cmd := s.command(ctx, r, repo, "receive-pack", "--stateless-rpc", ".")
	cmd.Env = append(cmd.Env, committerEnv(user.Name)...)
	// The child holds the lock too: if this server dies, the next one waits.
	cmd.ExtraFiles = []*os.File{lock.file}
	tail := &tailWriter{limit: 4 << 10}
	held := &answer{w: w, kind: out.kind, hold: true}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = io.MultiReader(strings.NewReader(push.raw), body), held, tail
	runErr := cmd.Run()
	s.pushed(repo, push)
	lock.release() // what a client still sends holds up nobody
	if errors.As(body.err, new(*core.TooLargeError)) {
		drain(w, r)
		reason := fmt.Sprintf("the push is larger than this repository's limit of %s", humanize.IBytes(uint64(limit)))
		_, err := io.WriteString(out, push.report(push.refuseAll(reason)))
		return err
	}
	if held.begun {
		drain(w, r) // a client still sending does not listen
		return held.release()
	}
	switch {
	case body.err != nil:
		return body.err
	case runErr != nil:
		return &commandError{verb: receivePack, err: runErr, stderr: tail.String()}
	}
	return nil
}

// pushed sees to what follows from a push, however it went.
func (s *server) pushed(repo *repository, p *push) {
	if len(p.commands) == 0 {
		return // git asks so before a large push
	}
	s.outbox.wake(repo, p.refs()...)
	for _, c := range p.commands {
		s.followHead(repo, core.RefUpdate{Ref: c.ref, Old: c.old, New: c.new})
	}
	if err := repo.forgetDeletions(p.deletions()); err != nil {
		s.log.Warn("Forgetting a refused deletion failed", "repository", repo.String(), "error", err)
	}
}

// maxDrain bounds what is taken of a push that was refused. It costs nothing
// but time; git makes a riddle ("HTTP 400") of an answer that comes earlier.
const maxDrain = 2 << 30

// drain takes what the client is still sending, so that it comes to read the
// answer. Within reason.
func drain(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(drainTime))
	_, _ = io.CopyN(io.Discard, r.Body, maxDrain)
}

// requestBody is the request's body, unzipped, bounded, and cut off where the
// client stalls.
func requestBody(w http.ResponseWriter, r *http.Request, limit int64) (*limitedBody, error) {
	control := http.NewResponseController(w)
	var body io.Reader = &patientReader{r: r.Body, control: control}
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "":
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(body)
		if err != nil {
			return nil, &badRequest{http.StatusBadRequest, "the body is not gzip"}
		}
		body = z
	default:
		return nil, &badRequest{http.StatusUnsupportedMediaType, "the body's encoding is not supported"}
	}
	return &limitedBody{r: body, left: limit, limit: limit}, nil
}

// patientReader gives the client idleTime for each read, and for the whole as
// long as it keeps up slowestRate: a request that trickles in holds one of few
// places, and in a push its repository's lock.
type patientReader struct {
	r       io.Reader
	control *http.ResponseController
	due     time.Time // when what is still to come must be there
}

func (p *patientReader) Read(b []byte) (int, error) {
	now := time.Now()
	if p.due.IsZero() {
		p.due = now.Add(idleTime)
	}
	deadline := now.Add(idleTime)
	if p.due.Before(deadline) {
		deadline = p.due
	}
	// Without support for deadlines (HTTP/2 has it, tests' recorders do not)
	// the request's own time still ends it.
	_ = p.control.SetReadDeadline(deadline)
	n, err := p.r.Read(b)
	p.due = p.due.Add(time.Duration(n) * time.Second / slowestRate)
	if errors.Is(err, io.EOF) {
		// The answer may take its time: net/http goes on listening for a client
		// that leaves, and would take the deadline for one.
		_ = p.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

// limitedBody fails beyond a limit, and remembers that it did.
type limitedBody struct {
	r           io.Reader
	left, limit int64
	err         error
}

func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		b.err = &core.TooLargeError{What: "the request", Size: b.limit - b.left, Limit: b.limit}
		return 0, b.err
	}
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = &badRequest{http.StatusBadRequest, "the body cannot be read"}
	}
	return n, err
}

// answer is a response whose header is sent with the first byte, so that an
// error before it can still be one. One on hold keeps what is written until
// release; a push's answer is small.
type answer struct {
	w            http.ResponseWriter
	kind, prefix string
	begun, hold  bool
	held         []byte
}

// maxHeld bounds the answer to a push: a status for each reference, and what
// Git says.
const maxHeld = 4 << 20

func (a *answer) Write(p []byte) (int, error) {
	if a.hold {
		a.begun = true
		if len(a.held)+len(p) > maxHeld {
			return 0, errors.New("the answer is too long")
		}
		a.held = append(a.held, p...)
		return len(p), nil
	}
	control := http.NewResponseController(a.w)
	_ = control.SetWriteDeadline(time.Now().Add(idleTime)) // as in patientReader
	if !a.begun {
		a.begun = true
		a.w.Header().Set("Content-Type", a.kind)
		a.w.WriteHeader(http.StatusOK)
		if _, err := io.WriteString(a.w, a.prefix); err != nil {
			return 0, err
		}
	}
	n, err := a.w.Write(p)
	if err == nil {
		_ = control.Flush()
	}
	return n, err
}

func (a *answer) release() error {
	a.hold, a.begun = false, false
	_, err := a.Write(a.held)
	return err
}
