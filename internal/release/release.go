// Package release keeps Helm releases in a cluster: it installs, upgrades,
// rolls back, tests and uninstalls, with Helm's own actions and Helm's own
// record (Secrets sh.helm.release.v1.NAME.vN), so that the helm command works
// on the same releases.
//
// Templates are not run here. What they write comes from the caller, who has
// them rendered where hostile programs may run.
package release

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/kube"
	helm "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/storage"
	"helm.sh/helm/v4/pkg/storage/driver"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/fairway-cd/fairway/internal/core/fence"
	watcher "github.com/fairway-cd/fairway/internal/kube"
)

// Record is one revision of a release, as Helm keeps it.
type Record = helm.Release

// fieldManager is that of the helm command, so that neither finds the other's
// fields to be foreign.
const fieldManager = "helm"

// labelRevision is on the Secret of a revision that we made; its value is the
// revision's number and what it was made of ("3.SOURCE"). The command copies
// labels from one revision to the next, so it is ours only where the number is
// its own.
const labelRevision = "fairway-cd.io/revision"

// Cluster has the releases of one cluster. It is safe for concurrent use; a
// release is acted on by one caller at a time.
type Cluster struct {
	config *rest.Config
	own    *identity
	watch  *watch

	mu     sync.Mutex
	fenced map[fence.Fence]*identity
}

// New reaches the cluster of cfg, which is not changed.
func New(cfg *rest.Config) (*Cluster, error) {
	// Helm has no other way to say it.
	setManager.Do(func() { kube.ManagedFieldsManager = fieldManager })
	cfg = rest.CopyConfig(cfg)
	cfg.QPS = -1
	cfg.Wrap(fence.Guard)
	own, err := newIdentity(cfg)
	if err != nil {
		return nil, err
	}
	client, err := watcher.New(cfg)
	if err != nil {
		return nil, err
	}
	return &Cluster{config: cfg, own: own, watch: newWatch(client), fenced: map[fence.Fence]*identity{}}, nil
}

var setManager sync.Once

// Target is where a release is.
type Target struct {
	Name, Namespace string
	// Storage is the namespace of its record.
	Storage string
	// User, where set, is whom to act as: system:serviceaccount:NAMESPACE:NAME.
	User string
}

// Release is one release.
type Release struct {
	Target
	id *identity
}

// Release returns a release, which need not be there. Where ctx has a fence it
// is that of all that the release writes: Helm's own client has no context of
// ours to find one in.
func (c *Cluster) Release(ctx context.Context, t Target) (*Release, error) {
	id, err := c.identity(fence.From(ctx), t.User)
	if err != nil {
		return nil, err
	}
	return &Release{Target: t, id: id}, nil
}

// identity is who acts as the user, or as ourselves, within the fence, or
// without. What is known of kinds, and has been asked of the API server for
// validation, is kept for as long as a fence holds.
func (c *Cluster) identity(f fence.Fence, user string) (*identity, error) {
	if user != "" {
		cfg := rest.CopyConfig(c.config)
		cfg.Impersonate = rest.ImpersonationConfig{UserName: user}
		return newIdentity(fenced(cfg, f))
	}
	if f == nil {
		return c.own, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if id := c.fenced[f]; id != nil {
		return id, nil
	}
	for old := range c.fenced {
		if !old.Holds() {
			delete(c.fenced, old)
		}
	}
	id, err := identityOf(&getter{config: fenced(c.config, f), discovery: c.own.discovery, mapper: c.own.mapper})
	if err == nil {
		c.fenced[f] = id
	}
	return id, err
}

// configuration is what an action needs. swap puts the real chart into the
// record.
func (r *Release) configuration(swap *swap) *action.Configuration {
	quiet := slog.DiscardHandler // values and manifests are not for logs
	client := &kube.Client{Factory: r.id.factory, Namespace: r.Namespace}
	client.SetLogger(quiet)
	cfg := action.NewConfiguration(action.ConfigurationSetLogger(quiet))
	cfg.RESTClientGetter = r.id
	cfg.KubeClient = client
	cfg.Releases = r.storage(swap)
	// Nothing is left to render that could ask.
	cfg.Capabilities = common.DefaultCapabilities.Copy()
	return cfg
}

func (r *Release) storage(swap *swap) *storage.Storage {
	secrets := driver.NewSecrets(r.id.clientset.CoreV1().Secrets(r.Storage))
	secrets.SetLogger(slog.DiscardHandler)
	s := storage.Init(&recorder{Driver: secrets, swap: swap})
	s.SetLogger(slog.DiscardHandler)
	return s
}

// Last is the newest revision, and nil where there is none. Errors are those
// of the API server.
func (r *Release) Last(ctx context.Context) (*Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	last, err := r.storage(nil).Last(r.Name)
	if errors.Is(err, driver.ErrReleaseNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the record of release %s/%s: %w", r.Storage, r.Name, err)
	}
	return record(last)
}

// Get is one revision, and nil where it is not there.
func (r *Release) Get(revision int) (*Record, error) {
	found, err := r.storage(nil).Get(r.Name, revision)
	if errors.Is(err, driver.ErrReleaseNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read revision %d of release %s/%s: %w", revision, r.Storage, r.Name, err)
	}
	return record(found)
}

// MadeOf is the Options.Source with which we made this revision; ours is false
// for one that somebody else made.
func MadeOf(rec *Record) (source string, ours bool) {
	number, source, _ := strings.Cut(rec.Labels[labelRevision], ".")
	return source, number == strconv.Itoa(rec.Version)
}

func record(r any) (*Record, error) {
	rec, ok := r.(*Record)
	if !ok {
		return nil, fmt.Errorf("the record is a %T, not a release of version 1", r)
	}
	if rec.Info == nil || rec.Chart == nil || rec.Chart.Metadata == nil {
		return nil, errors.New("the record has no information or no chart")
	}
	return rec, nil
}

// identity is who acts: connections, and what is known of the cluster's kinds.
type identity struct {
	*getter
	factory   kube.Factory
	clientset kubernetes.Interface
	dynamic   dynamic.Interface
}
