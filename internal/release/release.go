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
}

// New reaches the cluster of cfg, which is not changed.
func New(cfg *rest.Config) (*Cluster, error) {
	// Helm has no other way to say it.
	setManager.Do(func() { kube.ManagedFieldsManager = fieldManager })
	cfg = rest.CopyConfig(cfg)
	cfg.QPS = -1
	own, err := newIdentity(cfg)
	if err != nil {
		return nil, err
	}
	client, err := watcher.New(cfg)
	if err != nil {
		return nil, err
	}
	return &Cluster{config: cfg, own: own, watch: newWatch(client)}, nil
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

// Release returns a release, which need not be there.
func (c *Cluster) Release(t Target) (*Release, error) {
	id := c.own
	if t.User != "" {
		cfg := rest.CopyConfig(c.config)
		cfg.Impersonate = rest.ImpersonationConfig{UserName: t.User}
		var err error
		if id, err = newIdentity(cfg); err != nil {
			return nil, err
		}
	}
	return &Release{Target: t, id: id}, nil
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
