package app

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/fairway-cd/fairway/internal/controller"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/git"
	"github.com/fairway-cd/fairway/internal/registry"
	"github.com/fairway-cd/fairway/internal/registry/chart"
)

var _ controller.Sources = (*sources)(nil)

// chartCache is how much of charts and artifacts is kept, unpacked.
const chartCache = 64 << 20

// sources are the trees that deliveries are read from: Git, and charts and
// artifacts of registries and of Helm repositories.
type sources struct {
	git *git.Store
	// own are the hosts that are our registry, which is read from within.
	own      []string
	registry *registry.Registry
	access   core.Access
	cache    *chart.Cache
	// repositories are Helm's over HTTP.
	repositories *chart.Repositories
}

var _ controller.Packages = (*sources)(nil)

// newSources reads our own repositories and images from within, and those of
// others over the network.
func (s *Server) newSources(st *stores) *sources {
	var own []string
	if st.registry != nil { // a replica of the engine has none
		port := strconv.Itoa(s.inst.Config.Port)
		own = []string{net.JoinHostPort("localhost", port), net.JoinHostPort("127.0.0.1", port)}
	}
	cache := chart.NewCache(chartCache)
	return &sources{
		git: st.git, own: append(own, s.inst.Config.Listen...), registry: st.registry, access: st.access, cache: cache,
		repositories: chart.NewRepositories(chart.New(chart.Options{Cache: cache})),
	}
}

// reader reads those of our own images that a namespace may read: its own, and
// those for which its ServiceAccount default has get on images, or on
// repositories, as for Git. So argocd and flux-system read all of them.
func (s *sources) reader(ctx context.Context, namespace string) http.RoundTripper {
	return s.registry.Reader(func(name core.Name) bool {
		if name.Namespace == namespace {
			return true
		}
		for _, resource := range []string{core.ResourceRepositories, core.ResourceImages} {
			what := core.Action{Verb: "get", Group: core.Group, Resource: resource, Namespace: name.Namespace, Name: name.Name}
			if s.access.Authorize(ctx, controller.ReaderOf(namespace), what) == nil {
				return true
			}
		}
		return false
	})
}

// Resolve implements controller.Sources.
func (s *sources) Resolve(ctx context.Context, req controller.SourceRequest) (core.Snapshot, error) {
	if req.Chart != "" {
		return s.chart(ctx, req)
	}
	if strings.HasPrefix(req.URL, "oci://") {
		asked := controller.ArtifactRequest{Namespace: req.Namespace, URL: req.URL, Tag: req.Ref.Revision, MediaType: req.Layer.MediaType, Copy: req.Layer.Copy, Auth: req.Auth}
		if strings.HasPrefix(req.Ref.Revision, "sha256:") {
			asked.Digest = req.Ref.Revision
		}
		return s.Artifact(ctx, asked)
	}
	if req.Kept {
		return s.git.ResolveKept(ctx, req.URL, git.Ref(req.Ref))
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

// chart opens a chart of a Helm repository, or of an OCI registry: as in Argo
// CD, the URL is then a host and a path, with oci:// or without.
func (s *sources) chart(ctx context.Context, req controller.SourceRequest) (core.Snapshot, error) {
	if strings.HasPrefix(req.URL, "http://") || strings.HasPrefix(req.URL, "https://") {
		return s.repositories.OpenChart(ctx, helmRepository(req), req.Chart, req.Ref.Revision, req.Fetch)
	}
	charts, err := s.charts(ctx, req.Namespace, req.Auth)
	if err != nil {
		return core.Snapshot{}, err
	}
	ref := "oci://" + strings.TrimSuffix(strings.TrimPrefix(req.URL, "oci://"), "/") + "/" + req.Chart
	if strings.HasPrefix(req.Ref.Revision, "sha256:") { // of a pin
		return charts.OpenChart(ctx, ref+"@"+req.Ref.Revision, "")
	}
	return charts.OpenChart(ctx, ref, req.Ref.Revision)
}

// charts reads registries as a namespace does.
func (s *sources) charts(ctx context.Context, namespace string, auth controller.Auth) (*chart.Charts, error) {
	options := chart.Options{Own: map[string]http.RoundTripper{}, Insecure: auth.Insecure, Cache: s.cache}
	reader := s.reader(ctx, namespace)
	for _, host := range s.own {
		options.Own[host] = reader
	}
	if auth.Username != "" {
		options.Keychain = staticKeychain{auth.Username, auth.Password}
	}
	if len(auth.CA)+len(auth.ClientCert) > 0 {
		var err error
		if options.Transport, err = (chart.Repository{CA: auth.CA, Cert: auth.ClientCert, Key: auth.ClientKey}).Transport(); err != nil {
			return nil, err
		}
	}
	return chart.New(options), nil
}

func helmRepository(req controller.SourceRequest) chart.Repository {
	return chart.Repository{
		URL: req.URL, Username: req.Auth.Username, Password: req.Auth.Password, PassCredentials: req.Auth.PassCredentials,
		CA: req.Auth.CA, Cert: req.Auth.ClientCert, Key: req.Auth.ClientKey, Insecure: req.Auth.Insecure,
	}
}

// Index implements controller.Packages.
func (s *sources) Index(ctx context.Context, req controller.SourceRequest) (controller.PackageIndex, error) {
	index, err := s.repositories.Index(ctx, helmRepository(req), req.Fetch)
	if err != nil {
		return controller.PackageIndex{}, err
	}
	return controller.PackageIndex{Digest: index.Digest, Size: index.Size, Charts: index.Charts()}, nil
}

// Artifact implements controller.Packages.
func (s *sources) Artifact(ctx context.Context, req controller.ArtifactRequest) (core.Snapshot, error) {
	charts, err := s.charts(ctx, req.Namespace, req.Auth)
	if err != nil {
		return core.Snapshot{}, err
	}
	return charts.OpenArtifact(ctx, chart.Artifact{
		URL: req.URL, Digest: req.Digest, SemVer: req.SemVer, Filter: req.Filter, Tag: req.Tag, MediaType: req.MediaType, Copy: req.Copy,
	})
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

// Names implements controller.Sources.
func (s *sources) Names(url string) []string { return s.git.Names(url) }

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
