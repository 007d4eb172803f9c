package git

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/problem"
	"github.com/fairway-cd/fairway/internal/core/turns"
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
	// turns bounds the requests being served.
	turns *turns.Turns
}

// Handler serves the repositories over Git's smart HTTP protocol, at /git/.
// Every request is authenticated and authorized with access. A push to a
// repository that does not exist makes it, where the user may.
func (s *Store) Handler(access core.Access) http.Handler {
	return &server{Store: s, access: access, turns: turns.New("Git requests", s.limits.Requests, s.limits.Requests/2)}
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
	leave, err := s.turns.Take(r.Context(), c.user.Name, s.limits.RequestWait)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	defer leave()
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

// badRequest is what is not Git's protocol.
type badRequest struct {
	status int
	reason string
}

func (e *badRequest) Error() string { return e.reason }

// HTTPStatus implements problem.Stated.
func (e *badRequest) HTTPStatus() int { return e.status }

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
	if c.name, err = s.parseName(path); err != nil {
		return c, problem.With(http.StatusNotFound, err)
	}
	return c, nil
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
	err = s.Create(r.Context(), c.name, func(ctx context.Context) error {
		if s.options.Create == nil {
			return nil
		}
		return s.options.Create(ctx, user, c.name)
	})
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
	if errors.Is(err, core.ErrUnauthenticated) {
		w.Header().Set("WWW-Authenticate", `Basic realm="Fairway", charset="UTF-8"`)
	}
	s.sayError(w, r, err)
}

// sayError answers with what the error means, in one line of text.
func (s *Store) sayError(w http.ResponseWriter, r *http.Request, err error) {
	p := problem.Of(err)
	if p.Status == http.StatusInternalServerError {
		s.log.Error("Serving Git failed", "path", r.URL.Path, "error", err)
	}
	text := p.Error
	var hinted core.Hinted
	if errors.As(err, &hinted) {
		text += "; " + hinted.Hint()
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	if p.After > 0 {
		h.Set("Retry-After", strconv.Itoa(int(p.After.Seconds())))
	}
	w.WriteHeader(p.Status)
	fmt.Fprintln(w, oneLine(text))
}
