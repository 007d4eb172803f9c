package controller

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/drift"
	"github.com/fairway-cd/fairway/internal/kube"
)

// Live is what a delivery has in its cluster.
type Live struct {
	Cluster string `json:"cluster"`
	Server  string `json:"server"`
	// Away is why the cluster cannot be asked; what is here then is what was
	// known last.
	Away string `json:"away,omitempty"`
	// Revision is what was deployed last; of several sources one for each, with
	// commas between.
	Revision string       `json:"revision"`
	Objects  []LiveObject `json:"objects"`
}

// LiveObject is one object of it.
type LiveObject struct {
	Ref core.ObjectRef `json:"ref"`
	// State is Synced, Modified or Missing; Unknown while nobody has seen it.
	State  string      `json:"state"`
	Health core.Health `json:"health,omitempty"`
	// Images are those of its containers, by name, and Replicas how many it is to
	// have: of workloads alone.
	Images   map[string]string `json:"images,omitempty"`
	Replicas *int64            `json:"replicas,omitempty"`
}

// The states of a LiveObject.
const (
	liveSynced   = "Synced"
	liveModified = "Modified"
	liveMissing  = "Missing"
	liveUnknown  = "Unknown"
)

// liveReads is how many objects are read at a time for one request.
const liveReads = 8

func (e *Engine) serveLive(r *http.Request, owner core.Owner, _ core.User) (any, error) {
	return e.Live(r.Context(), owner)
}

// Live says what a delivery has in its cluster. A cluster that is away is no
// error. Errors: those of view.
func (e *Engine) Live(ctx context.Context, owner core.Owner) (*Live, error) {
	u, err := e.object(ctx, owner)
	if err != nil {
		return nil, err
	}
	at, revision, inventory, err := e.whereIs(ctx, owner, u)
	if err != nil && !unreachable(err) {
		return nil, err
	}
	out := &Live{Cluster: at.name, Server: at.server, Revision: revision, Objects: make([]LiveObject, len(inventory))}
	if err != nil {
		out.Away = err.Error()
	}
	known := map[core.ObjectRef]drift.ObjectState{}
	for _, s := range e.stages.Watcher.State(owner) {
		known[s.Ref.Key()] = s
	}
	for i, ref := range inventory {
		out.Objects[i] = LiveObject{Ref: ref, State: liveUnknown}
		if s, seen := known[ref.Key()]; seen && out.Away == "" {
			out.Objects[i].State, out.Objects[i].Health = stateNames[s.Drift], s.Health
		}
	}
	if out.Away == "" {
		e.readWorkloads(ctx, owner, out)
	}
	return out, nil
}

var stateNames = map[drift.Drift]string{drift.None: liveSynced, drift.Modified: liveModified, drift.Deleted: liveMissing}

// whereIs is the delivery's place, what was deployed there last, and what it
// has. The place is known even where the error is that it is away.
func (e *Engine) whereIs(ctx context.Context, owner core.Owner, u *unstructured.Unstructured) (at place, revision string, inventory []core.ObjectRef, err error) {
	if owner.Dialect == core.Flux {
		k, err := readKustomization(u)
		if err != nil {
			return at, "", nil, err
		}
		run := &kustomizationRun{k: k, status: &k.Status}
		_, revision, _ = strings.Cut(k.Status.LastAppliedRevision, ":")
		at, err = e.reachFlux(owner, k.Spec.KubeConfig)
		return at, revision, run.inventory(), err
	}
	app, err := readApplication(u)
	if err != nil {
		return at, "", nil, err
	}
	run := &applicationRun{
		applications: e.apps, key: types.NamespacedName{Namespace: owner.Namespace, Name: owner.Name}, memory: &memory{}, object: u, app: app, status: app.Status.DeepCopy(),
	}
	err = run.reach(ctx)
	return run.at, deployedRevision(&app.Status), inventoryOf(app.Status.Resources), err
}

// deployedRevision is what an Application's history ends with.
func deployedRevision(s *argo.ApplicationStatus) string {
	if len(s.History) == 0 {
		return ""
	}
	last := s.History[len(s.History)-1]
	if last.Revision != "" {
		return last.Revision
	}
	return strings.Join(last.Revisions, ",")
}

// readWorkloads reads those objects that have containers.
func (e *Engine) readWorkloads(ctx context.Context, owner core.Owner, out *Live) {
	client, err := e.clientOf(owner)
	if err != nil {
		out.Away = err.Error()
		return
	}
	var all sync.WaitGroup
	places := make(chan struct{}, liveReads)
	for i := range out.Objects {
		if !workloads[out.Objects[i].Ref.Kind] {
			continue
		}
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			readWorkload(ctx, client, &out.Objects[i])
		})
	}
	all.Wait()
}

// workloads are the kinds with containers, of whichever group.
var workloads = map[string]bool{
	"Deployment": true, "StatefulSet": true, "DaemonSet": true, "ReplicaSet": true, "ReplicationController": true,
	"Job": true, "CronJob": true, "Pod": true, "Rollout": true,
}

// readWorkload fills in what an object has. What cannot be read stays unknown.
func readWorkload(ctx context.Context, client *kube.Client, o *LiveObject) {
	live, err := liveObject(ctx, client, o.Ref)
	switch {
	case apierrors.IsNotFound(err):
		o.State = liveMissing
		return
	case err != nil:
		o.State = liveUnknown
		return
	}
	o.Images = map[string]string{}
	for _, path := range [][]string{{"spec"}, {"spec", "template", "spec"}, {"spec", "jobTemplate", "spec", "template", "spec"}} {
		for _, field := range []string{"initContainers", "containers"} {
			containers, _, _ := unstructured.NestedSlice(live.Object, append(slices.Clone(path), field)...)
			for _, c := range containers {
				m, _ := c.(map[string]any)
				name, _ := m["name"].(string)
				if image, _ := m["image"].(string); name != "" {
					o.Images[name] = image
				}
			}
		}
	}
	if n, found, err := unstructured.NestedInt64(live.Object, "spec", "replicas"); found && err == nil {
		o.Replicas = &n
	}
}

// liveObject reads one object.
func liveObject(ctx context.Context, client *kube.Client, ref core.ObjectRef) (*unstructured.Unstructured, error) {
	res, err := client.For(ref)
	if err != nil {
		return nil, err
	}
	return res.Get(ctx, ref.Name, metav1.GetOptions{})
}
