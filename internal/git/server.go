package git

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
)

// mountPath is where Handler belongs.
const mountPath = "/git/"

// The services of Git's smart HTTP protocol, gitprotocol-http(5).
const (
	uploadPack  = "git-upload-pack"
	receivePack = "git-receive-pack"
)

// The verbs of core.Action for Git.
const (
	verbGet    = "get"
	verbUpdate = "update"
	verbCreate = "create"
)

// server serves Git's smart HTTP protocol.
type server struct {
	*Store
	access core.Access
	// slots bounds the requests being served.
	slots chan struct{}
}

// Handler serves the repositories over Git's smart HTTP protocol, at /git/.
// Every request is authenticated and authorized with access. A push to a
// repository that does not exist makes it, where the user may.
func (s *Store) Handler(access core.Access) http.Handler {
	return &server{Store: s, access: access, slots: make(chan struct{}, s.limits.Requests)}
}

// call is one request, understood.
type call struct {
	name    core.Name
	service string
	// advertise is the first request of a fetch or push, which lists
	// references.
	advertise bool
	user      core.User
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-cache, max-age=0, must-revalidate")
	c, err := s.understand(r)
	if err == nil {
		err = s.admit(r, &c)
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	if err := s.queue(r.Context()); err != nil {
		w.Header().Set("Retry-After", "10")
		s.refuse(w, r, err)
		return
	}
	defer func() { <-s.slots }()
	repo, err := s.embedded(c.name)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.limits.RequestTime)
	defer cancel()
	switch {
	case c.advertise:
		err = s.advertise(ctx, w, r, repo, c.service)
	case c.service == receivePack:
		// A push whose client left after sending everything is still a push.
		push, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), s.limits.RequestTime)
		defer cancel()
		err = s.receive(push, w, r, repo, c.user)
	default:
		err = s.upload(ctx, w, r, repo)
	}
	if err != nil && r.Context().Err() == nil {
		s.refuse(w, r, err)
	}
}

// queueTime is how long a request waits for its turn: git clients do not come
// back by themselves.
const queueTime = 10 * time.Second

// queue waits for one of the slots.
func (s *server) queue(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, queueTime)
	defer cancel()
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return &core.UnavailableError{What: "the Git server", Err: errors.New("too many requests at the same time, try again")}
	}
}

// badRequest is what is not Git's protocol.
type badRequest struct {
	status int
	reason string
}

func (e *badRequest) Error() string { return e.reason }

// understand reads the request's line.
func (s *server) understand(r *http.Request) (call, error) {
	path := strings.TrimPrefix(r.URL.Path, strings.TrimSuffix(mountPath, "/"))
	var c call
	switch {
	case strings.HasSuffix(path, "/info/refs"):
		path = strings.TrimSuffix(path, "/info/refs")
		c.service, c.advertise = r.URL.Query().Get("service"), true
		if c.service != uploadPack && c.service != receivePack {
			return c, &badRequest{http.StatusForbidden, "only Git's smart HTTP protocol is served"}
		}
	case strings.HasSuffix(path, "/"+uploadPack):
		path, c.service = strings.TrimSuffix(path, "/"+uploadPack), uploadPack
	case strings.HasSuffix(path, "/"+receivePack):
		path, c.service = strings.TrimSuffix(path, "/"+receivePack), receivePack
	default:
		return c, &badRequest{http.StatusNotFound, "this is a Git repository's URL, for git clone"}
	}
	if c.advertise && r.Method != http.MethodGet && r.Method != http.MethodHead || !c.advertise && r.Method != http.MethodPost {
		return c, &badRequest{http.StatusMethodNotAllowed, "wrong method"}
	}
	if want := "application/x-" + c.service + "-request"; !c.advertise && r.Header.Get("Content-Type") != want {
		return c, &badRequest{http.StatusUnsupportedMediaType, "want Content-Type " + want}
	}
	var err error
	c.name, err = s.parseName(path)
	return c, err
}

// admit asks who it is and whether they may, and makes the repository of a
// first push.
func (s *server) admit(r *http.Request, c *call) error {
	user, err := s.access.Authenticate(r)
	if err != nil {
		return err
	}
	c.user = user
	verb := verbGet
	if c.service == receivePack {
		verb = verbUpdate
	}
	if err := s.access.Authorize(r.Context(), user, action(verb, c.name)); err != nil {
		return s.sayCreate(r.Context(), c, err)
	}
	exists, err := s.Exists(r.Context(), c.name)
	if err != nil || exists {
		return err
	}
	if !c.advertise || c.service != receivePack {
		return &NotFoundError{Repository: c.name.String()}
	}
	if err := s.access.Authorize(r.Context(), user, action(verbCreate, c.name)); err != nil {
		return err
	}
	if s.options.Create != nil {
		if err := s.options.Create(r.Context(), user, c.name); err != nil {
			return err
		}
	}
	err = s.Create(r.Context(), c.name)
	var exist *ExistsError
	if errors.As(err, &exist) {
		return nil // somebody else was faster
	}
	return err
}

// sayCreate makes the refusal of a push name what would have been needed: to a
// user who may know that the repository is not there, the right to make it.
func (s *server) sayCreate(ctx context.Context, c *call, refusal error) error {
	var forbidden *core.ForbiddenError
	if c.service != receivePack || !errors.As(refusal, &forbidden) {
		return refusal
	}
	if err := s.access.Authorize(ctx, c.user, action(verbGet, c.name)); err != nil {
		return refusal
	}
	if exists, err := s.Exists(ctx, c.name); err != nil || exists {
		return refusal
	}
	if err := s.access.Authorize(ctx, c.user, action(verbCreate, c.name)); err != nil {
		return err
	}
	return refusal
}

func action(verb string, name core.Name) core.Action {
	return core.Action{Verb: verb, Group: core.Group, Resource: core.ResourceRepositories, Namespace: name.Namespace, Name: name.Name}
}

// refuse answers with one line of text, which git shows to its user.
func (s *server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	status, text := explain(err)
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="Fairway", charset="UTF-8"`)
	}
	if status == http.StatusInternalServerError {
		s.log.Error("Serving Git failed", "path", r.URL.Path, "error", err)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	fmt.Fprintln(w, oneLine(text))
}

// explain translates an error for people at the other end.
func explain(err error) (status int, text string) {
	var (
		bad         *badRequest
		name        *core.InvalidNameError
		namespace   *core.NoNamespaceError
		notFound    *NotFoundError
		forbidden   *core.ForbiddenError
		unavailable *core.UnavailableError
		tooLarge    *core.TooLargeError
	)
	switch {
	case errors.Is(err, core.ErrUnauthenticated):
		return http.StatusUnauthorized, err.Error()
	case errors.As(err, &forbidden):
		return http.StatusForbidden, forbidden.Error()
	case errors.As(err, &unavailable):
		return http.StatusServiceUnavailable, unavailable.Error()
	case errors.As(err, &bad):
		return bad.status, bad.reason
	case errors.As(err, &name):
		return http.StatusNotFound, name.Error()
	case errors.As(err, &notFound):
		return http.StatusNotFound, notFound.Error()
	case errors.As(err, &namespace):
		return http.StatusNotFound, namespace.Error() + "; " + namespace.Hint()
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge, tooLarge.Error()
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return http.StatusInsufficientStorage, "the server's disk is full"
	case errors.Is(err, syscall.EROFS):
		return http.StatusInsufficientStorage, "the server's disk is read-only"
	}
	return http.StatusInternalServerError, "the server failed; its log says why"
}
