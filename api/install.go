package api

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/yaml"

	"github.com/fairway-cd/fairway/api/fairway"
)

//go:embed crds/*.yaml
var crds embed.FS

// LabelManagedBy is on the definitions that we have installed; its value is
// "fairway". What has it not is somebody else's and is not touched.
const LabelManagedBy = "app.kubernetes.io/managed-by"

// Definitions are the CustomResourceDefinitions of all our kinds: the
// dialects', by name, and then those of our own group.
func Definitions() ([]*apiextensions.CustomResourceDefinition, error) {
	dialects, err := fs.Sub(crds, "crds")
	if err != nil {
		return nil, err
	}
	var out []*apiextensions.CustomResourceDefinition
	for _, dir := range []fs.FS{dialects, fairway.CRDs()} {
		some, err := definitions(dir)
		if err != nil {
			return nil, err
		}
		out = append(out, some...)
	}
	return out, nil
}

// definitions reads the files of a directory, and marks what is in them as ours.
func definitions(dir fs.FS) ([]*apiextensions.CustomResourceDefinition, error) {
	files, err := fs.Glob(dir, "*.yaml")
	if err != nil {
		return nil, err
	}
	var out []*apiextensions.CustomResourceDefinition
	for _, file := range files {
		data, err := fs.ReadFile(dir, file)
		if err != nil {
			return nil, err
		}
		crd := &apiextensions.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict(data, crd); err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		if crd.Labels == nil {
			crd.Labels = map[string]string{}
		}
		crd.Labels[LabelManagedBy] = "fairway"
		out = append(out, crd)
	}
	return out, nil
}

// Outcome is what Install did to one definition.
type Outcome struct {
	// Name is the definition's ("applications.argoproj.io").
	Name string
	// Foreign: somebody else installed it, and it was left as it is.
	Foreign bool
	// Missing are versions that we need and a foreign definition does not
	// serve: objects of this kind cannot be reconciled.
	Missing []string
}

// Install applies our definitions and waits until the API server serves them.
// It is idempotent. A definition that is there without our label is not
// touched. Errors are those of the API server, and of the context.
func Install(ctx context.Context, cfg *rest.Config) ([]Outcome, error) {
	wanted, err := Definitions()
	if err != nil {
		return nil, err
	}
	client, err := clientset.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to install CustomResourceDefinitions: %w", err)
	}
	out := make([]Outcome, len(wanted))
	group, installing := errgroup.WithContext(ctx)
	for i, crd := range wanted {
		group.Go(func() (err error) {
			// Replicas that start together write one after the other.
			err = retry.RetryOnConflict(retry.DefaultBackoff, func() (err error) {
				out[i], err = install(installing, client, crd)
				return err
			})
			if err != nil {
				return fmt.Errorf("install %s: %w", crd.Name, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return out, served(ctx, client.Discovery(), expected(wanted, out))
}

// expected are the kinds that the API server is going to serve: of somebody
// else's definition not those versions that are not in it.
func expected(wanted []*apiextensions.CustomResourceDefinition, outcomes []Outcome) []schema.GroupVersionResource {
	var kinds []schema.GroupVersionResource
	for i, crd := range wanted {
		if kind := stored(crd); !slices.Contains(outcomes[i].Missing, kind.Version) {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

func install(ctx context.Context, client clientset.Interface, crd *apiextensions.CustomResourceDefinition) (Outcome, error) {
	definitions := client.ApiextensionsV1().CustomResourceDefinitions()
	o := Outcome{Name: crd.Name}
	live, err := definitions.Get(ctx, crd.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = definitions.Create(ctx, crd, metav1.CreateOptions{})
		if !apierrors.IsAlreadyExists(err) {
			return o, err
		}
		// Somebody was faster: look again whose it is.
		if live, err = definitions.Get(ctx, crd.Name, metav1.GetOptions{}); err != nil {
			return o, err
		}
	case err != nil:
		return o, err
	}
	if live.Labels[LabelManagedBy] != crd.Labels[LabelManagedBy] {
		o.Foreign, o.Missing = true, unserved(live, crd)
		return o, nil
	}
	updated := live.DeepCopy()
	updated.Spec = crd.Spec
	if apiequality.Semantic.DeepEqual(live.Spec, updated.Spec) {
		return o, nil
	}
	_, err = definitions.Update(ctx, updated, metav1.UpdateOptions{})
	return o, err
}

// unserved are the versions of wanted that live does not serve.
func unserved(live, wanted *apiextensions.CustomResourceDefinition) []string {
	serves := map[string]bool{}
	for _, v := range live.Spec.Versions {
		serves[v.Name] = v.Served
	}
	var missing []string
	for _, v := range wanted.Spec.Versions {
		if v.Storage && !serves[v.Name] {
			missing = append(missing, v.Name)
		}
	}
	return missing
}

// serveTimeout bounds how long the API server may take until it serves new
// kinds: a second, but on a busy or small machine many.
const serveTimeout = 3 * time.Minute

// served waits until the API server serves the kinds and tells of them. Each of
// these is made anew some time after the other: how a kind is served, the list
// of a version's kinds, and the list of everything, by which clients go. Who
// asks in between is refused. What is asked for often is small: the work that
// it makes is taken from the work that is waited for.
func served(ctx context.Context, client discovery.DiscoveryInterface, kinds []schema.GroupVersionResource) error {
	waiting := map[schema.GroupVersionResource]bool{}
	for _, kind := range kinds {
		waiting[kind] = true
	}
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, serveTimeout, true, func(ctx context.Context) (bool, error) {
		for kind := range waiting {
			if listed(client, kind) && listable(ctx, client, kind) {
				delete(waiting, kind)
			}
		}
		return len(waiting) == 0 && discovered(client, kinds), nil
	})
	if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
		return err
	}
	for kind := range waiting {
		return fmt.Errorf("wait for %s: the API server does not serve it within %s", kind.GroupResource(), serveTimeout)
	}
	return fmt.Errorf("wait for our kinds: the API server does not tell of them within %s", serveTimeout)
}

// stored is the version of a kind that is stored.
func stored(crd *apiextensions.CustomResourceDefinition) schema.GroupVersionResource {
	kind := schema.GroupVersionResource{Group: crd.Spec.Group, Resource: crd.Spec.Names.Plural}
	for _, v := range crd.Spec.Versions {
		if v.Storage {
			kind.Version = v.Name
		}
	}
	return kind
}

// listed says whether the kind is in the list of its version.
func listed(client discovery.DiscoveryInterface, kind schema.GroupVersionResource) bool {
	resources, err := client.ServerResourcesForGroupVersion(kind.GroupVersion().String())
	return err == nil && slices.ContainsFunc(resources.APIResources, func(r metav1.APIResource) bool { return r.Name == kind.Resource })
}

// listable asks for one object of the kind.
func listable(ctx context.Context, client discovery.DiscoveryInterface, kind schema.GroupVersionResource) bool {
	err := client.RESTClient().Get().AbsPath("/apis", kind.Group, kind.Version, kind.Resource).Param("limit", "1").Do(ctx).Error()
	// Whoever may not list has nothing to wait for.
	return err == nil || apierrors.IsForbidden(err)
}

// discovered says whether the list of everything has the kinds.
func discovered(client discovery.DiscoveryInterface, kinds []schema.GroupVersionResource) bool {
	// An error about the groups of others does not concern us.
	_, lists, _ := client.ServerGroupsAndResources()
	told := map[schema.GroupVersionResource]bool{}
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			continue
		}
		for _, r := range list.APIResources {
			told[gv.WithResource(r.Name)] = true
		}
	}
	return !slices.ContainsFunc(kinds, func(kind schema.GroupVersionResource) bool { return !told[kind] })
}
