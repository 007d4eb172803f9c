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
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
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
	group, ctx := errgroup.WithContext(ctx)
	for i, crd := range wanted {
		group.Go(func() (err error) {
			if out[i], err = install(ctx, client, crd); err != nil {
				return fmt.Errorf("install %s: %w", crd.Name, err)
			}
			if err := served(ctx, client, crd.Name); err != nil {
				return fmt.Errorf("wait for %s: %w", crd.Name, err)
			}
			return nil
		})
	}
	return out, group.Wait()
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

// served waits until objects of the kind can be listed and the kind is found by
// who looks for it. That it is established comes a moment earlier than both,
// and who asks in between is refused.
func served(ctx context.Context, client clientset.Interface, name string) error {
	err := wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		crd, err := client.ApiextensionsV1().CustomResourceDefinitions().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		for _, c := range crd.Status.Conditions {
			if c.Type == apiextensions.Established && c.Status == apiextensions.ConditionTrue {
				return listable(ctx, client, crd) && discovered(client, crd), nil
			}
		}
		return false, nil
	})
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return errors.New("the API server does not serve it within a minute")
	}
	return err
}

// discovered says whether the API server tells of the stored version in its
// list of groups, and of the kind in that of the version: each is made anew
// some time after the other.
func discovered(client clientset.Interface, crd *apiextensions.CustomResourceDefinition) bool {
	groups, err := client.Discovery().ServerGroups()
	if err != nil {
		return false
	}
	for _, v := range crd.Spec.Versions {
		if !v.Storage {
			continue
		}
		gv := crd.Spec.Group + "/" + v.Name
		listed := slices.ContainsFunc(groups.Groups, func(g metav1.APIGroup) bool {
			return slices.ContainsFunc(g.Versions, func(v metav1.GroupVersionForDiscovery) bool { return v.GroupVersion == gv })
		})
		if !listed {
			return false
		}
		resources, err := client.Discovery().ServerResourcesForGroupVersion(gv)
		if err != nil || !slices.ContainsFunc(resources.APIResources, func(r metav1.APIResource) bool { return r.Name == crd.Spec.Names.Plural }) {
			return false
		}
	}
	return true
}

// listable asks for one object of the stored version.
func listable(ctx context.Context, client clientset.Interface, crd *apiextensions.CustomResourceDefinition) bool {
	for _, v := range crd.Spec.Versions {
		if !v.Storage {
			continue
		}
		err := client.Discovery().RESTClient().Get().
			AbsPath("/apis", crd.Spec.Group, v.Name, crd.Spec.Names.Plural).Param("limit", "1").Do(ctx).Error()
		// Whoever may not list has nothing to wait for.
		return err == nil || apierrors.IsForbidden(err)
	}
	return true
}
