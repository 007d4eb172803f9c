package controller

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/appset"
)

// secretCluster is the label's value of a Secret that describes a cluster.
const secretCluster = "cluster"

// clustersTimeout is how long a set waits for the first list of them.
const clustersTimeout = 10 * time.Second

// clusterSecrets are Argo CD's Secrets of clusters, without what opens them.
type clusterSecrets struct {
	client    kubernetes.Interface
	namespace string
	// changed is told of each change.
	changed func()

	store  cache.Store
	synced chan struct{}
}

// Run follows the Secrets until ctx ends.
func (c *clusterSecrets) Run(ctx context.Context) error {
	lw := cache.NewFilteredListWatchFromClient(c.client.CoreV1().RESTClient(), "secrets", c.namespace, func(o *metav1.ListOptions) {
		o.LabelSelector = labelSecretType + "=" + secretCluster
	})
	store, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: lw, ObjectType: &corev1.Secret{}, Transform: withoutCredentials,
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { c.changed() },
			UpdateFunc: func(any, any) { c.changed() },
			DeleteFunc: func(any) { c.changed() },
		},
	})
	c.store = store
	go informer.RunWithContext(ctx)
	if cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		close(c.synced)
	}
	<-ctx.Done()
	return nil
}

// withoutCredentials keeps of a Secret what a generator may see.
func withoutCredentials(obj any) (any, error) {
	s, ok := obj.(*corev1.Secret)
	if !ok {
		return obj, nil
	}
	data := map[string][]byte{}
	for _, key := range []string{"name", "server", "project"} {
		data[key] = s.Data[key]
	}
	s = s.DeepCopy()
	s.Data, s.ManagedFields = data, nil
	delete(s.Annotations, corev1.LastAppliedConfigAnnotation)
	return s, nil
}

// list returns the clusters by name: those of Secrets, and the one that we run
// in where no Secret describes it.
func (c *clusterSecrets) list(ctx context.Context) ([]appset.Cluster, error) {
	waiting, cancel := context.WithTimeout(ctx, clustersTimeout)
	defer cancel()
	select {
	case <-c.synced:
	case <-waiting.Done():
		return nil, fmt.Errorf("wait for the Secrets of clusters: %w", waiting.Err())
	}
	var out []appset.Cluster
	here := false
	for _, obj := range c.store.List() {
		s, ok := obj.(*corev1.Secret)
		if !ok {
			continue
		}
		cluster := appset.Cluster{
			Name: string(s.Data["name"]), Server: string(s.Data["server"]), Project: string(s.Data["project"]),
			Labels: s.Labels, Annotations: s.Annotations, Secret: true,
		}
		if cluster.Name == "" {
			cluster.Name = cluster.Server
		}
		here = here || cluster.Server == argo.InClusterServer
		out = append(out, cluster)
	}
	if !here {
		out = append(out, appset.Cluster{Name: argo.InClusterName, Server: argo.InClusterServer})
	}
	slices.SortFunc(out, func(a, b appset.Cluster) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Server, b.Server))
	})
	return out, nil
}
