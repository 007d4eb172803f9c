package controller

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/appset"
	"github.com/fairway-cd/fairway/internal/fleet"
)

// secretCluster is the label's value of a Secret that describes a cluster.
const secretCluster = "cluster"

// clustersTimeout is how long somebody waits for the first list of them.
const clustersTimeout = 10 * time.Second

// clusterSecrets are Argo CD's Secrets of clusters.
type clusterSecrets struct {
	client    kubernetes.Interface
	namespace string

	store  cache.Store
	synced chan struct{}

	mu sync.Mutex
	// changed are told of each change.
	changed []func()
	// read are the Secrets as they were read last, by name.
	read map[string]*knownCluster
}

// knownCluster is one Secret, read.
type knownCluster struct {
	secret, version     string
	name, server        string
	project             string
	labels, annotations map[string]string
	cluster             *fleet.Cluster // nil for the cluster that we run in
	err                 error          // why the Secret cannot be used
}

func newClusterSecrets(client kubernetes.Interface, namespace string) *clusterSecrets {
	return &clusterSecrets{client: client, namespace: namespace, synced: make(chan struct{}), read: map[string]*knownCluster{}}
}

// tell has changed called with each change; it must not block. It is called
// before Run.
func (c *clusterSecrets) tell(changed func()) { c.changed = append(c.changed, changed) }

// Run follows the Secrets until ctx ends.
func (c *clusterSecrets) Run(ctx context.Context) error {
	lw := cache.NewFilteredListWatchFromClient(c.client.CoreV1().RESTClient(), "secrets", c.namespace, func(o *metav1.ListOptions) {
		o.LabelSelector = labelSecretType + "=" + secretCluster
	})
	tell := func() {
		for _, changed := range c.changed {
			changed()
		}
	}
	store, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: lw, ObjectType: &corev1.Secret{}, Transform: withoutRest,
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { tell() },
			UpdateFunc: func(any, any) { tell() },
			DeleteFunc: func(any) { tell() },
		},
	})
	c.store = store
	go informer.RunWithContext(ctx)
	if cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		close(c.synced)
		tell()
	}
	<-ctx.Done()
	return nil
}

// withoutRest keeps of a Secret what describes a cluster.
func withoutRest(obj any) (any, error) {
	s, ok := obj.(*corev1.Secret)
	if !ok {
		return obj, nil
	}
	data := map[string][]byte{}
	for _, key := range []string{"name", "server", "project", "namespaces", "clusterResources", "config"} {
		data[key] = s.Data[key]
	}
	s = s.DeepCopy()
	s.Data, s.ManagedFields = data, nil
	delete(s.Annotations, corev1.LastAppliedConfigAnnotation)
	return s, nil
}

// listed says that the Secrets are known, so that nobody has to wait for them.
func (c *clusterSecrets) listed() bool {
	select {
	case <-c.synced:
		return true
	default:
		return false
	}
}

// known are the clusters that Secrets describe, by name.
func (c *clusterSecrets) known(ctx context.Context) ([]*knownCluster, error) {
	waiting, cancel := context.WithTimeout(ctx, clustersTimeout)
	defer cancel()
	select {
	case <-c.synced:
	case <-waiting.Done():
		return nil, fmt.Errorf("wait for the Secrets of clusters: %w", waiting.Err())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	list, read := []*knownCluster{}, map[string]*knownCluster{}
	for _, obj := range c.store.List() {
		s, ok := obj.(*corev1.Secret)
		if !ok {
			continue
		}
		k := c.read[s.Name]
		if k == nil || k.version != s.ResourceVersion {
			k = readClusterSecret(s)
		}
		read[s.Name] = k
		list = append(list, k)
	}
	c.read = read
	slices.SortFunc(list, func(a, b *knownCluster) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.server, b.server), cmp.Compare(a.secret, b.secret))
	})
	return list, nil
}

// readClusterSecret reads a Secret. That of the cluster that we run in only
// gives it a name, labels and a project, as in Argo CD.
func readClusterSecret(s *corev1.Secret) *knownCluster {
	k := &knownCluster{
		secret: s.Name, version: s.ResourceVersion, name: strings.TrimSpace(string(s.Data["name"])), server: fleet.NormalServer(string(s.Data["server"])),
		project: string(s.Data["project"]), labels: s.Labels, annotations: s.Annotations,
	}
	if k.name == "" {
		k.name = k.server
	}
	switch {
	case k.server == argo.InClusterServer:
	case k.name == argo.InClusterName:
		k.err = fmt.Errorf("the name %s is that of the cluster that Fairway runs in", argo.InClusterName)
	default:
		k.cluster, k.err = fleet.FromSecret(s.Data)
	}
	return k
}

// named says whether a destination of that name is the cluster. No Secret takes
// away the name of the cluster that we run in.
func (k *knownCluster) named(name string) bool {
	return k.name == name && (name != argo.InClusterName || k.server == argo.InClusterServer)
}

// list returns the clusters by name, as generators see them: those of Secrets,
// and the one that we run in where no Secret describes it.
func (c *clusterSecrets) list(ctx context.Context) ([]appset.Cluster, error) {
	known, err := c.known(ctx)
	if err != nil {
		return nil, err
	}
	var out []appset.Cluster
	here := false
	for _, k := range known {
		here = here || k.server == argo.InClusterServer
		out = append(out, appset.Cluster{
			Name: k.name, Server: k.server, Project: k.project, Labels: k.labels, Annotations: k.annotations, Secret: true,
		})
	}
	if !here {
		out = append(out, appset.Cluster{Name: argo.InClusterName, Server: argo.InClusterServer})
	}
	slices.SortFunc(out, func(a, b appset.Cluster) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Server, b.Server))
	})
	return out, nil
}

// place is a cluster that deliveries can go to.
type place struct {
	name, server string
	// cluster is nil for the one that we run in.
	cluster *fleet.Cluster
}

// home is the cluster that we run in.
var home = place{name: argo.InClusterName, server: argo.InClusterServer}

// destination is the place as projects see it.
func (p place) destination(namespace string) argo.ApplicationDestination {
	return argo.ApplicationDestination{Server: p.server, Name: p.name, Namespace: namespace}
}

// find returns the cluster that a destination names. The error is a *SpecError,
// which a change of the Secrets puts right, or one of waiting for them.
func (c *clusterSecrets) find(ctx context.Context, dest argo.ApplicationDestination, project string) (place, error) {
	refused := &SpecError{}
	checkDestination(dest, refused)
	server := fleet.NormalServer(dest.Server)
	if err := refused.orNil(); err != nil {
		return place{}, err
	}
	known, err := c.known(ctx)
	if err != nil {
		return place{}, err
	}
	var fit []*knownCluster
	for _, k := range known {
		if dest.Name != "" && k.named(dest.Name) || dest.Name == "" && k.server == server {
			fit = append(fit, k)
		}
	}
	// A cluster may have a Secret for each of several projects.
	if own := slices.DeleteFunc(slices.Clone(fit), func(k *knownCluster) bool { return k.project != project }); len(own) > 0 {
		fit = own
	} else if common := slices.DeleteFunc(slices.Clone(fit), func(k *knownCluster) bool { return k.project != "" }); len(common) > 0 {
		fit = common
	}
	field, value := "spec.destination.server", server
	if dest.Name != "" {
		field, value = "spec.destination.name", dest.Name
	}
	switch {
	case len(fit) == 0 && (value == argo.InClusterServer || value == argo.InClusterName):
		return home, nil
	case len(fit) == 0:
		refused.add(field, "no cluster %q is known: 'fairway cluster list' lists them, 'fairway cluster add' adds one", value)
	case len(fit) > 1:
		refused.add(field, "there is more than one cluster %q: Secrets %s and %s", value, fit[0].secret, fit[1].secret)
	case fit[0].err != nil:
		refused.add(field, "the Secret %s of cluster %q cannot be used: %v", fit[0].secret, value, fit[0].err)
	default:
		return place{name: fit[0].name, server: fit[0].server, cluster: fit[0].cluster}, nil
	}
	return place{}, refused
}

// checkDestination says what is wrong with a destination in itself.
func checkDestination(dest argo.ApplicationDestination, refused *SpecError) {
	const path = "spec.destination"
	switch {
	case dest.Server != "" && dest.Name != "":
		refused.add(path, "server and name must not both be set")
	case dest.Server == "" && dest.Name == "":
		refused.add(path, "server or name is required")
	}
}
