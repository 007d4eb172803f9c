package app

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/fairway-cd/fairway/internal/controller"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/git"
	"github.com/fairway-cd/fairway/internal/registry/chart"
)

var _ controller.Sources = (*sources)(nil)

// sources are the trees that deliveries are read from: Git, and charts of
// registries.
type sources struct {
	git *git.Store
	// own are the hosts that are our registry, and how it is read from within.
	own map[string]http.RoundTripper
}

// newSources reads our own repositories and images from within, and those of
// others over the network.
func (s *Server) newSources(st *stores) *sources {
	// Whoever may make an Application here may deploy from every repository, so
	// charts are read from all of them, as Git is.
	reader := st.registry.Reader(func(core.Name) bool { return true })
	own := map[string]http.RoundTripper{}
	for _, host := range []string{"localhost", "127.0.0.1"} {
		own[net.JoinHostPort(host, strconv.Itoa(s.inst.Config.Port))] = reader
	}
	for _, address := range s.inst.Config.Listen {
		own[address] = reader
	}
	return &sources{git: st.git, own: own}
}

// Resolve implements controller.Sources.
func (s *sources) Resolve(ctx context.Context, req controller.SourceRequest) (core.Snapshot, error) {
	if req.Chart != "" {
		return s.chart(ctx, req)
	}
	if req.Fetch {
		at, err := s.git.Locate(req.URL)
		if err != nil {
			return core.Snapshot{}, err
		}
		if !at.Embedded() {
			if _, err := s.git.Fetch(ctx, req.URL, gitAuth(req.Auth)); err != nil {
				return core.Snapshot{}, err
			}
		}
	}
	return s.git.Resolve(ctx, req.URL, git.Ref(req.Ref), gitAuth(req.Auth))
}

// chart opens a chart of an OCI registry. As in Argo CD, the URL is a host and
// a path, with oci:// or without.
func (s *sources) chart(ctx context.Context, req controller.SourceRequest) (core.Snapshot, error) {
	if strings.HasPrefix(req.URL, "http://") || strings.HasPrefix(req.URL, "https://") {
		return core.Snapshot{}, &HelmRepositoryError{URL: req.URL}
	}
	options := chart.Options{Own: s.own, Insecure: req.Auth.Insecure}
	if req.Auth.Username != "" {
		options.Keychain = staticKeychain{req.Auth.Username, req.Auth.Password}
	}
	ref := "oci://" + strings.TrimSuffix(strings.TrimPrefix(req.URL, "oci://"), "/") + "/" + req.Chart
	if strings.HasPrefix(req.Ref.Revision, "sha256:") { // of a pin
		return chart.New(options).OpenChart(ctx, ref+"@"+req.Ref.Revision, "")
	}
	return chart.New(options).OpenChart(ctx, ref, req.Ref.Revision)
}

// HelmRepositoryError refuses a Helm repository that is not a registry.
type HelmRepositoryError struct{ URL string }

func (e *HelmRepositoryError) Error() string {
	return fmt.Sprintf("%s: Helm repositories over HTTP (index.yaml) are not supported", e.URL)
}

// Hint says what is.
func (e *HelmRepositoryError) Hint() string {
	return "push the chart to a registry (helm push), and name it as oci://HOST/PATH"
}

// staticKeychain has one credential for every registry that it is asked about.
type staticKeychain struct{ username, password string }

// Resolve implements authn.Keychain.
func (k staticKeychain) Resolve(authn.Resource) (authn.Authenticator, error) {
	return &authn.Basic{Username: k.username, Password: k.password}, nil
}

// Embedded implements controller.Sources.
func (s *sources) Embedded(url string) (core.Name, bool) {
	at, err := s.git.Locate(url)
	if err != nil || !at.Embedded() {
		return core.Name{}, false
	}
	return at.Repository, true
}

// Same implements controller.Sources.
func (s *sources) Same(url string, u core.RefUpdate) bool {
	at, err := s.git.Locate(url)
	if err != nil {
		return false
	}
	if at.Embedded() {
		return at.Repository == u.Repository
	}
	return u.URL != "" && at.URL == u.URL
}
