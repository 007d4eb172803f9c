package backup

import (
	"context"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// Cluster takes objects out of a cluster, and brings them back into one.
type Cluster struct {
	discovery discovery.CachedDiscoveryInterface
	dynamic   dynamic.Interface
	mapper    *restmapper.DeferredDiscoveryRESTMapper
}

// NewCluster is the cluster of the configuration, which has to name somebody
// who may read, or write, everything.
func NewCluster(config *rest.Config) (*Cluster, error) {
	config = rest.CopyConfig(config)
	config.QPS = -1 // there are thousands of objects
	// Which kinds are old is not for who makes a backup.
	config.WarningHandler = rest.NoWarnings{}
	disco, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("connecting to the cluster: %w", err)
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("connecting to the cluster: %w", err)
	}
	cached := memory.NewMemCacheClient(disco)
	return &Cluster{discovery: cached, dynamic: client, mapper: restmapper.NewDeferredDiscoveryRESTMapper(cached)}, nil
}

// Version is the Kubernetes version.
func (c *Cluster) Version() (string, error) {
	v, err := c.discovery.ServerVersion()
	if err != nil {
		return "", fmt.Errorf("asking for the version of Kubernetes: %w", err)
	}
	return v.GitVersion, nil
}

// listPage is how many objects are asked for at once.
const listPage = 500

// Collect calls do with each object that neither Kubernetes nor Fairway makes
// by itself. Each kind is as it was at one moment. A kind that cannot be read
// is an error: half a backup is none.
func (c *Cluster) Collect(ctx context.Context, do func(*unstructured.Unstructured) error) error {
	lists, err := c.discovery.ServerPreferredResources()
	if err != nil {
		return fmt.Errorf("asking what kinds there are: %w", err)
	}
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return fmt.Errorf("asking what kinds there are: %w", err)
		}
		for _, r := range list.APIResources {
			gvr := gv.WithResource(r.Name)
			if !slices.Contains(r.Verbs, "list") || !slices.Contains(r.Verbs, "create") || neverKept(gvr.GroupResource()) {
				continue
			}
			if err := c.list(ctx, gvr, do); err != nil {
				return fmt.Errorf("reading all %s: %w", gvr.GroupResource(), err)
			}
		}
	}
	return nil
}

func (c *Cluster) list(ctx context.Context, gvr schema.GroupVersionResource, do func(*unstructured.Unstructured) error) error {
	options := metav1.ListOptions{Limit: listPage}
	for {
		page, err := c.dynamic.Resource(gvr).List(ctx, options)
		if err != nil {
			return err
		}
		for i := range page.Items {
			o := &page.Items[i]
			if madeByItself(gvr.GroupResource(), o) {
				continue
			}
			unstructured.RemoveNestedField(o.Object, "metadata", "resourceVersion")
			if err := do(o); err != nil {
				return err
			}
		}
		if options.Continue = page.GetContinue(); options.Continue == "" {
			return nil
		}
	}
}
