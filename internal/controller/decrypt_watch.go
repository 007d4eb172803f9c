package controller

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// labelWatch with the value "Enabled" on a Secret or ConfigMap has the
// Kustomizations that refer to it follow its changes, as in Flux.
const (
	labelWatch   = "reconcile.fluxcd.io/watch"
	watchEnabled = "Enabled"
)

// follower follows objects by their metadata, which are all that is read.
type follower struct{ client metadata.Interface }

func newFollower(config *rest.Config) (*follower, error) {
	c, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("connect to follow metadata: %w", err)
	}
	return &follower{c}, nil
}

// follow tells of each object of a resource of the core group that carries the
// label, as it is now and when it changes or goes, until ctx ends.
func (f *follower) follow(ctx context.Context, resource, namespace string, label labels.Set, changed func(metav1.Object)) {
	selected := func(o *metav1.ListOptions) { o.LabelSelector = label.String() }
	what := corev1.SchemeGroupVersion.WithResource(resource)
	informer := metadatainformer.NewFilteredMetadataInformer(f.client, what, namespace, 0, cache.Indexers{}, selected).Informer()
	handle := func(obj any) {
		if stale, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = stale.Obj
		}
		if o, ok := obj.(metav1.Object); ok {
			changed(o)
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: handle, DeleteFunc: handle, UpdateFunc: func(_, obj any) { handle(obj) }})
	if err != nil {
		log.FromContext(ctx).Error(err, "following metadata", "resource", resource)
		return
	}
	informer.RunWithContext(ctx)
}

// secretDep and configMapDep name what a Kustomization refers to.
func secretDep(key types.NamespacedName) string    { return "Secret " + key.String() }
func configMapDep(key types.NamespacedName) string { return "ConfigMap " + key.String() }

// referenced are the Secrets and ConfigMaps that the Kustomization is made
// with.
func (k *kustomizationObject) referenced() []string {
	var deps []string
	if d := k.Spec.Decryption; d != nil && d.SecretRef != nil {
		deps = append(deps, secretDep(types.NamespacedName{Namespace: k.Namespace, Name: d.SecretRef.Name}))
	}
	if k.Spec.PostBuild == nil {
		return deps
	}
	for _, from := range k.Spec.PostBuild.SubstituteFrom {
		key := types.NamespacedName{Namespace: k.Namespace, Name: from.Name}
		switch from.Kind {
		case "Secret":
			deps = append(deps, secretDep(key))
		case "ConfigMap":
			deps = append(deps, configMapDep(key))
		}
	}
	return deps
}

// followReferenced wakes the Kustomizations that refer to a Secret or ConfigMap
// that is to be watched, until ctx ends.
func (r *kustomizations) followReferenced(config *rest.Config) (func(context.Context) error, error) {
	f, err := newFollower(config)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		var all sync.WaitGroup
		for resource, dep := range map[string]func(types.NamespacedName) string{"secrets": secretDep, "configmaps": configMapDep} {
			all.Go(func() {
				f.follow(ctx, resource, metav1.NamespaceAll, labels.Set{labelWatch: watchEnabled}, func(o metav1.Object) {
					r.wakeDependents(dep(types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}), sourceMoved)
				})
			})
		}
		all.Wait()
		return nil
	}, nil
}
