package controller

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/problem"
	"github.com/fairway-cd/fairway/internal/fleet"
)

// ClusterStatus is a cluster as it is told.
type ClusterStatus struct {
	Name   string `json:"name"`
	Server string `json:"server"`
	// Secret is where it is described; none for the cluster that we run in.
	Secret  string `json:"secret,omitempty"`
	Project string `json:"project,omitempty"`
	// Namespaces are the only ones that are delivered to; none is all.
	Namespaces []string `json:"namespaces,omitempty"`
	Version    string   `json:"version,omitempty"`
	// State is Connected, Away, Connecting, or Invalid where the Secret cannot be
	// used; Since when, and Message why.
	State   string     `json:"state"`
	Since   *time.Time `json:"since,omitempty"`
	Message string     `json:"message,omitempty"`
	// Deliveries is how many go there.
	Deliveries int `json:"deliveries"`
}

// clusterInvalid is the state of a cluster whose Secret cannot be used.
const clusterInvalid = "Invalid"

// Clusters are those that deliveries can go to, by name. The answer has no
// credential in it.
type Clusters struct {
	Items []ClusterStatus `json:"items"`
}

// user answers a request of somebody who is authenticated; serve checks what he
// may.
func (e *Engine) user(serve func(*http.Request, core.User) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, err := func() (any, error) {
			if e.stages.Access == nil {
				return nil, errNoAccess
			}
			user, err := e.stages.Access.Authenticate(r)
			if err != nil {
				return nil, err
			}
			return serve(r, user)
		}()
		if err != nil {
			problem.Write(w, r, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		// The client is gone where this fails.
		_ = json.NewEncoder(w).Encode(answer)
	})
}

// serveClusters answers who may list the Applications of Argo CD's namespace,
// which name clusters too. Those of Flux' kubeconfigs are for who may list the
// Kustomizations of their namespace.
func (e *Engine) serveClusters(r *http.Request, user core.User) (any, error) {
	may := func(o core.Owner) error { return e.stages.Access.Authorize(r.Context(), user, o.Action("list")) }
	if err := may(core.Owner{Dialect: core.ArgoCD, Kind: argo.ApplicationKind, Namespace: e.opts.ArgoNamespace}); err != nil {
		return nil, err
	}
	known, err := e.clusters.known(r.Context())
	if err != nil {
		return nil, err
	}
	out := Clusters{Items: []ClusterStatus{e.homeStatus(known)}}
	for _, k := range known {
		if k.server == argo.InClusterServer {
			continue
		}
		s := ClusterStatus{Name: k.name, Server: k.server, Secret: k.secret, Project: k.project}
		e.stateOf(&s, k.cluster, k.err)
		out.Items = append(out.Items, s)
	}
	for _, k := range e.kubeconfigs.list() {
		if may(core.Owner{Dialect: core.Flux, Kind: kustomizev1.KustomizationKind, Namespace: k.ref.secret.Namespace}) != nil {
			continue
		}
		s := ClusterStatus{Name: k.ref.secret.String(), Secret: k.ref.secret.String()}
		if k.read == nil {
			s.State, s.Message = clusterInvalid, "the Secret is not there"
		} else {
			if k.read.cluster != nil {
				s.Server = k.read.cluster.Server
			}
			e.stateOf(&s, k.read.cluster, k.read.err)
		}
		out.Items = append(out.Items, s)
	}
	slices.SortStableFunc(out.Items[1:], func(a, b ClusterStatus) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// homeStatus is the cluster that we run in.
func (e *Engine) homeStatus(known []*knownCluster) ClusterStatus {
	s := ClusterStatus{Name: home.name, Server: home.server, State: string(fleet.Connected)}
	for _, k := range known {
		if k.server == home.server {
			s.Name, s.Secret, s.Project = k.name, k.secret, k.project
		}
	}
	if caps, err := e.here().Capabilities(); err == nil {
		s.Version = caps.KubeVersion
	} else {
		s.State, s.Message = string(fleet.Away), err.Error()
	}
	s.Deliveries = e.stages.Fleet.Deliveries(nil)
	return s
}

// stateOf fills in how it stands with a cluster.
func (e *Engine) stateOf(s *ClusterStatus, c *fleet.Cluster, invalid error) {
	switch {
	case invalid != nil:
		s.State, s.Message = clusterInvalid, invalid.Error()
		return
	case c == nil:
		s.State = string(fleet.Connecting)
		return
	}
	state := e.stages.Fleet.Connection(c)
	s.State, s.Version, s.Message = cmp.Or(string(state.Phase), string(fleet.Connecting)), state.Version, state.Message
	if !state.Since.IsZero() {
		since := state.Since.UTC().Truncate(time.Second)
		s.Since = &since
	}
	s.Namespaces, s.Deliveries = c.Namespaces, e.stages.Fleet.Deliveries(c)
}
