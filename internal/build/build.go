// Package build makes images from source: it says to an engine (BuildKit, in a
// process of its own: package engine) what is to be done, and tells how it goes.
package build

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth/authprovider"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"github.com/moby/buildkit/util/progress/progressui"
	"github.com/tonistiigi/fsutil"
	"golang.org/x/sync/errgroup"
)

// Request says what is to be built, from a directory with a Dockerfile.
type Request struct {
	// Context is the directory that the build sees.
	Context string
	// Dockerfile is the file's path; "" is Dockerfile in the context.
	Dockerfile string
	// Target is the stage to build; "" is the last one.
	Target string
	// Args are the build arguments, Labels go into the image.
	Args, Labels map[string]string
	// Secrets are mounted where a RUN asks for them, and nowhere kept.
	Secrets []Secret
	// Platform is OS/ARCH; "" is this machine's.
	Platform string
	// NoCache runs everything anew.
	NoCache bool
	// Offline leaves every RUN without a network.
	Offline bool
	// Epoch is the time that everything in the image has.
	Epoch time.Time
	// Outputs are what comes of it; none only builds.
	Outputs []Output
	// CacheFrom and CacheTo are images that hold the cache of others.
	CacheFrom, CacheTo []string
}

// Secret is a value that a RUN may see, and the image may not hold.
type Secret struct{ ID, File, Env string }

// Kind is a form in which a build's result is had.
type Kind string

// The kinds of outputs.
const (
	// Image is a push to the registry of its names.
	Image Kind = "image"
	// OCI is an OCI layout as a tar, Docker what 'docker load' reads.
	OCI    Kind = "oci"
	Docker Kind = "docker"
	// Local is a directory, Tar a tar, of the files of the result.
	Local Kind = "local"
	Tar   Kind = "tar"
)

// Output is one form of the result.
type Output struct {
	Kind Kind
	// Names are the image's, fully qualified.
	Names []string
	// Dest is the file or the directory; "-" is Stdout.
	Dest string
	// Insecure allows plain HTTP and certificates of nobody.
	Insecure bool
}

// Progress is how a build is shown.
type Progress struct {
	Out  io.Writer
	Mode string // auto, plain, json or quiet
}

// Result is what was built.
type Result struct {
	// Digest is that of the image's manifest; "" where no image was asked for.
	Digest string `json:"digest,omitempty"`
	// Names are the names that it was pushed by.
	Names []string `json:"names,omitempty"`
}

// Builder builds on one engine. It is safe for concurrent use.
type Builder struct {
	Engine   Engine
	Keychain authn.Keychain
}

// Build does what is asked for. The error of a Dockerfile is a *SourceError.
func (b *Builder) Build(ctx context.Context, r Request, p Progress) (*Result, error) {
	opt, err := b.options(r)
	if err != nil {
		return nil, err
	}
	mode := progressui.DisplayMode(p.Mode)
	if p.Mode == "json" {
		mode = progressui.RawJSONMode
	}
	display, err := progressui.NewDisplay(p.Out, mode)
	if err != nil {
		return nil, &UsageError{err.Error(), "--progress is auto, plain, json or quiet"}
	}
	c, err := b.Engine.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	status := make(chan *client.SolveStatus)
	group, groupCtx := errgroup.WithContext(ctx)
	var response *client.SolveResponse
	group.Go(func() error {
		var err error
		response, err = c.Solve(groupCtx, nil, *opt, status)
		return err
	})
	group.Go(func() error {
		// Until the channel is closed: what failed is told by then.
		_, err := display.UpdateFrom(context.WithoutCancel(ctx), status)
		return err
	})
	if err := group.Wait(); err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("the build was cancelled: %w", context.Cause(ctx))
		}
		return nil, told(err)
	}
	res := &Result{Digest: response.ExporterResponse[exptypes.ExporterImageDigestKey]}
	for _, o := range r.Outputs {
		if o.Kind == Image {
			res.Names = append(res.Names, o.Names...)
		}
	}
	return res, nil
}

// options is the request in BuildKit's words.
func (b *Builder) options(r Request) (*client.SolveOpt, error) {
	dockerfile := r.dockerfile()
	if err := readable(r.Context, dockerfile); err != nil {
		return nil, err
	}
	files, err := fsutil.NewFS(r.Context)
	if err != nil {
		return nil, fmt.Errorf("read the context: %w", err)
	}
	dir, err := fsutil.NewFS(filepath.Dir(dockerfile))
	if err != nil {
		return nil, fmt.Errorf("read the Dockerfile: %w", err)
	}
	attrs := map[string]string{
		"filename": filepath.Base(dockerfile),
		// The frontend that we have is the one that is used: "# syntax=" names
		// an image, which would have to be fetched.
		"cmdline":                     "",
		"build-arg:SOURCE_DATE_EPOCH": strconv.FormatInt(r.Epoch.Unix(), 10),
	}
	set := func(key, value string) {
		if value != "" {
			attrs[key] = value
		}
	}
	set("target", r.Target)
	set("platform", r.Platform)
	for k, v := range r.Args {
		attrs["build-arg:"+k] = v
	}
	for k, v := range r.Labels {
		attrs["label:"+k] = v
	}
	if r.NoCache {
		attrs["no-cache"] = ""
	}
	if r.Offline {
		attrs["force-network-mode"] = "none"
	}
	attach, err := b.attachables(r)
	if err != nil {
		return nil, err
	}
	opt := &client.SolveOpt{
		LocalMounts: map[string]fsutil.FS{"context": files, "dockerfile": dir},
		Frontend:    "dockerfile.v0", FrontendAttrs: attrs, Session: attach,
		// One file tree at a path is sent once, and then what changes.
		SharedKey: r.Context, ProxyNetwork: true,
	}
	for _, ref := range r.CacheFrom {
		opt.CacheImports = append(opt.CacheImports, client.CacheOptionsEntry{Type: "registry", Attrs: map[string]string{"ref": ref}})
	}
	for _, ref := range r.CacheTo {
		opt.CacheExports = append(opt.CacheExports, client.CacheOptionsEntry{Type: "registry", Attrs: map[string]string{"ref": ref, "mode": "max", "oci-mediatypes": "true", "image-manifest": "true"}})
	}
	for _, o := range r.Outputs {
		entry, err := export(o)
		if err != nil {
			return nil, err
		}
		opt.Exports = append(opt.Exports, entry)
	}
	return opt, nil
}

// readable says in one line what is wrong with where the build is.
func readable(dir, dockerfile string) error {
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		return &UsageError{fmt.Sprintf("the context: %v", err), "name a directory"}
	case !info.IsDir():
		return &UsageError{fmt.Sprintf("the context %s is no directory", dir), "-f names the Dockerfile"}
	}
	if _, err := os.Stat(dockerfile); err != nil {
		return &UsageError{fmt.Sprintf("the Dockerfile: %v", err), "name it with -f"}
	}
	return nil
}

func (b *Builder) attachables(r Request) ([]session.Attachable, error) {
	list := []session.Attachable{authprovider.NewDockerAuthProvider(authprovider.DockerAuthProviderConfig{AuthConfigProvider: b.credentials})}
	var sources []secretsprovider.Source
	for _, s := range r.Secrets {
		sources = append(sources, secretsprovider.Source{ID: s.ID, FilePath: s.File, Env: s.Env})
	}
	if len(sources) > 0 {
		store, err := secretsprovider.NewStore(sources)
		if err != nil {
			return nil, &UsageError{"a secret: " + err.Error(), "--secret id=NAME,src=FILE or id=NAME,env=NAME"}
		}
		list = append(list, secretsprovider.NewSecretProvider(store))
	}
	return list, nil
}

// credentials are those of the keychain, as BuildKit asks for them.
func (b *Builder) credentials(_ context.Context, host string, _ []string, _ authprovider.ExpireCachedAuthCheck) (types.AuthConfig, error) {
	if host == "registry-1.docker.io" {
		host = name.DefaultRegistry
	}
	registry, err := name.NewRegistry(host)
	if err != nil {
		return types.AuthConfig{}, fmt.Errorf("find the credentials of %s: %w", host, err)
	}
	who, err := b.Keychain.Resolve(registry)
	if err != nil {
		return types.AuthConfig{}, fmt.Errorf("find the credentials of %s: %w", host, err)
	}
	c, err := who.Authorization()
	if err != nil {
		return types.AuthConfig{}, fmt.Errorf("find the credentials of %s: %w", host, err)
	}
	return types.AuthConfig{
		ServerAddress: host, Username: c.Username, Password: c.Password,
		Auth: c.Auth, IdentityToken: c.IdentityToken, RegistryToken: c.RegistryToken,
	}, nil
}

// export is an output in BuildKit's words. An image has OCI's media types but in
// Docker's form, and every time in it is the epoch.
func export(o Output) (client.ExportEntry, error) {
	e := client.ExportEntry{Type: string(o.Kind), Attrs: map[string]string{"rewrite-timestamp": "true", "oci-mediatypes": "true"}}
	if len(o.Names) > 0 {
		e.Attrs["name"] = strings.Join(o.Names, ",")
	}
	switch o.Kind {
	case Image:
		maps.Copy(e.Attrs, map[string]string{"push": "true", "store": "false"})
		if o.Insecure {
			e.Attrs["registry.insecure"] = "true"
		}
	case OCI, Docker, Tar:
		if o.Kind == Tar {
			delete(e.Attrs, "oci-mediatypes")
		}
		if o.Kind == Docker {
			e.Attrs["oci-mediatypes"] = "false"
		}
		e.Output = func(map[string]string) (io.WriteCloser, error) { return create(o.Dest) }
	case Local:
		e.Attrs, e.OutputDir = map[string]string{}, o.Dest
	default:
		return e, &UsageError{fmt.Sprintf("there is no output of the type %q", o.Kind), "image, oci, docker, local and tar are there"}
	}
	return e, nil
}

func create(dest string) (io.WriteCloser, error) {
	if dest == "-" {
		return os.Stdout, nil
	}
	f, err := os.Create(dest)
	if err != nil {
		return nil, fmt.Errorf("write the result: %w", err)
	}
	return f, nil
}

// ParseOutput reads TYPE, or type=TYPE,dest=PATH, as BuildKit and Docker have it.
func ParseOutput(s string) (Output, error) {
	o := Output{}
	for i, part := range strings.Split(s, ",") {
		key, value, ok := strings.Cut(part, "=")
		switch {
		case !ok && i == 0:
			o.Kind, o.Dest = Local, part
		case !ok:
			return o, &UsageError{fmt.Sprintf("%q in the output %q", part, s), "type=oci,dest=app.tar or type=local,dest=out"}
		case key == "type":
			o.Kind = Kind(value)
		case key == "dest":
			o.Dest = value
		case key == "name":
			o.Names = append(o.Names, value)
		default:
			return o, &UsageError{fmt.Sprintf("the output %q has no %q", s, key), "type, dest and name are there"}
		}
	}
	if !slices.Contains([]Kind{Image, OCI, Docker, Local, Tar}, o.Kind) {
		return o, &UsageError{fmt.Sprintf("there is no output of the type %q", o.Kind), "image, oci, docker, local and tar are there"}
	}
	if o.Dest == "" && o.Kind != Image {
		return o, &UsageError{fmt.Sprintf("the output %q does not say where to", s), "dest=PATH"}
	}
	return o, nil
}
