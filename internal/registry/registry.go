package registry

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	"golang.org/x/sync/semaphore"

	"github.com/fairway-cd/fairway/internal/core"
)

// Options are what a registry is made of; Dir and Access are required.
type Options struct {
	// Dir holds everything; one process at a time may use it.
	Dir string
	// Access says who may do what.
	Access core.Access
	// HasNamespace, where set, is asked before the first push to a repository
	// and says with a *core.NoNamespaceError that its tenant is not there.
	HasNamespace func(ctx context.Context, namespace string) error
	// Limits bound requests.
	Limits Limits
	// Pushed, where set, is told of each manifest that was pushed, after it is
	// stored and before the client hears of it. It must return soon.
	Pushed func(context.Context, core.ImagePush)
	// Logger is for what is wrong on our side. Default slog.Default().
	Logger *slog.Logger
}

// Registry serves the OCI distribution API below /v2/. It is safe for
// concurrent use.
type Registry struct {
	access   core.Access
	tenant   func(ctx context.Context, namespace string) error
	limits   Limits
	pushed   func(context.Context, core.ImagePush)
	log      *slog.Logger
	store    store
	app      *handlers.App
	requests *semaphore.Weighted
	locks    pushLock
	uploads  exclusive
	// collecting is held by the one garbage collection at a time.
	collecting exclusive
}

var _ http.Handler = (*Registry)(nil)

// New opens the registry in opts.Dir, which it makes where there is none. It
// stops with Close, or with ctx.
func New(ctx context.Context, opts Options) (*Registry, error) {
	if opts.Dir == "" || opts.Access == nil {
		return nil, errors.New("a registry needs a directory and an access")
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	driver, err := newDurable(opts.Dir)
	if err != nil {
		return nil, err
	}
	secret, err := loadSecret(filepath.Join(opts.Dir, "secret"))
	if err != nil {
		return nil, fmt.Errorf("reading the registry's secret: %w", err)
	}
	limits := opts.Limits.withDefaults()
	g := &Registry{
		access:   opts.Access,
		tenant:   opts.HasNamespace,
		limits:   limits,
		pushed:   opts.Pushed,
		log:      opts.Logger,
		store:    store{driver},
		requests: semaphore.NewWeighted(int64(limits.Requests)),
	}
	if err := g.openReferrers(ctx); err != nil {
		return nil, err
	}
	if _, err := os.Stat(driver.full(collectedFile)); errors.Is(err, fs.ErrNotExist) {
		if err := g.setCollected(); err != nil {
			return nil, err
		}
	}
	registerDriver()
	g.app = handlers.NewApp(ctx, distributionConfig(driver, secret))
	return g, nil
}

// Close ends what the registry does beside requests.
func (g *Registry) Close() error { return g.app.Shutdown() }

func distributionConfig(driver *durable, secret string) *configuration.Configuration {
	c := &configuration.Configuration{
		Storage: configuration.Storage{
			driverName: {"driver": driver},
			"delete":   {"enabled": true},
			"redirect": {"disable": true},
			// Collect does that.
			"maintenance": {"uploadpurging": map[any]any{"enabled": false}},
		},
	}
	// Relative URLs: what a client says about the host it came by
	// (X-Forwarded-Host) goes nowhere.
	c.HTTP.RelativeURLs = true
	c.HTTP.Secret = secret
	// Layers with URLs are kept as they are: the registry fetches none.
	c.Validation.Manifests.URLs.Allow = []string{".*"}
	return c
}

// loadSecret reads or makes the key that signs the state of uploads, so that
// an upload goes on after a restart.
func loadSecret(path string) (string, error) {
	content, err := os.ReadFile(path)
	if err == nil && len(content) == 64 {
		return string(content), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	raw := make([]byte, 32)
	if _, err := rand.Read(raw); err != nil {
		return "", err
	}
	secret := hex.EncodeToString(raw)
	temporary := path + ".tmp"
	if err := os.WriteFile(temporary, []byte(secret), 0o600); err != nil {
		return "", err
	}
	return secret, os.Rename(temporary, path)
}

// ServeHTTP answers one request below /v2/.
func (g *Registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-API-Version", "registry/2.0")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if err := g.serve(w, r); err != nil {
		if err.status >= http.StatusInternalServerError {
			g.log.ErrorContext(r.Context(), "Registry request failed", "method", r.Method, "path", r.URL.Path, "error", err.err)
		}
		err.write(w, r)
	}
}

// serve admits a request and hands it on. Nothing is written where it
// returns an error.
func (g *Registry) serve(w http.ResponseWriter, r *http.Request) *apiError {
	if !g.requests.TryAcquire(1) {
		return &apiError{status: http.StatusTooManyRequests, code: codeTooManyRequests,
			message: "too many requests at a time", retryAfter: 1}
	}
	defer g.requests.Release(1)
	p := newPatient(w, g.limits.Idle)
	defer p.done()

	user, err := g.access.Authenticate(r)
	if err != nil {
		return accessError(err)
	}
	rt, bad := parseRoute(r.URL.Path)
	if bad != nil {
		return bad
	}
	if bad := g.authorize(r.Context(), user, r.Method, rt); bad != nil {
		return bad
	}
	r.Body = &body{ReadCloser: r.Body, left: g.limits.BlobBytes, patient: p}
	w = patientWriter{w, p}
	if rt.end == endBlob && r.Method == http.MethodGet {
		return g.streamBlob(w, r, rt)
	}
	// Locks are held while an answer is made and not while it is sent, which
	// is as fast as the client takes it.
	a, bad := g.answer(r, rt, user)
	if bad != nil {
		return bad
	}
	return a.send(w, r)
}

// answer does what is asked for and returns what to say; locks are released.
func (g *Registry) answer(r *http.Request, rt route, user core.User) (*answer, *apiError) {
	type key struct {
		end    endpoint
		method string
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	switch (key{rt.end, method}) {
	case key{endBase, http.MethodGet}:
		return jsonAnswer("application/json", struct{}{})
	case key{endCatalog, http.MethodGet}:
		return g.listRepositories(r, user)
	case key{endTags, http.MethodGet}:
		return g.listTags(r, rt)
	case key{endReferrers, http.MethodGet}:
		return g.listReferrers(r, rt)
	case key{endManifest, http.MethodGet}:
		return g.getManifest(r, rt)
	case key{endManifest, http.MethodPut}:
		return g.putManifest(r, rt, user)
	case key{endManifest, http.MethodDelete}:
		return g.deleteManifest(r, rt)
	case key{endBlob, http.MethodGet}:
		return g.headBlob(r, rt)
	case key{endBlob, http.MethodDelete}:
		return g.deleteBlob(r, rt)
	case key{endUploads, http.MethodPost}:
		return g.startUpload(r, rt, user)
	case key{endUpload, http.MethodGet}, key{endUpload, http.MethodPatch},
		key{endUpload, http.MethodPut}, key{endUpload, http.MethodDelete}:
		return g.continueUpload(r, rt)
	default:
		return nil, errorf(http.StatusMethodNotAllowed, codeUnsupported, "%s is not supported here", r.Method)
	}
}
