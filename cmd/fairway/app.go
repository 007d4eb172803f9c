package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/api/flux"
)

// appOptions are what every "app" command has.
type appOptions struct {
	// config is how to reach the Kubernetes API, api the server of the instance,
	// for what only the server knows.
	config func() (*rest.Config, string, error)
	api    func(context.Context) (*apiClient, error)
	// namespace is where Applications are; "" is Argo CD's default.
	namespace string
}

// defaultAppNamespace is where Argo CD keeps its Applications.
const defaultAppNamespace = "argocd"

func newAppCommand(config func() (*rest.Config, string, error), api func(context.Context) (*apiClient, error)) *cobra.Command {
	o := &appOptions{config: config, api: api}
	cmd := &cobra.Command{
		Use:     "app",
		Aliases: []string{"application", "apps"},
		Short:   "Applications, Kustomizations, HelmReleases: create, look at, sync, roll back",
		Long: `Applications, Kustomizations, HelmReleases: create, look at, sync, roll back.

Flags have the names that the argocd command gives them. NAME is the name of an
Application in --app-namespace, NAMESPACE/NAME, or the name of a Kustomization, or of a
HelmRelease.`,
	}
	cmd.PersistentFlags().StringVarP(&o.namespace, "app-namespace", "N", "", "namespace of the Application (default "+defaultAppNamespace+")")
	cmd.AddCommand(
		newAppCreateCommand(o), newAppGetCommand(o), newAppListCommand(o), newAppDiffCommand(o), newAppCompareCommand(o), newAppRenderCommand(o),
		newAppSyncCommand(o), newAppTerminateCommand(o), newAppWaitCommand(o), newAppHistoryCommand(o), newAppRollbackCommand(o),
		newAppPinCommand(o), newAppUnpinCommand(o), newAppDeleteCommand(o),
	)
	completeNames(cmd, o.appNames)
	return cmd
}

// client is a client of the Kubernetes API that knows our kinds.
func (o *appOptions) client() (client.WithWatch, error) {
	config, _, err := o.config()
	if err != nil {
		return nil, err
	}
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, argo.AddToScheme, flux.AddToScheme} {
		if err := add(s); err != nil {
			return nil, err
		}
	}
	c, err := client.NewWithWatch(config, client.Options{Scheme: s})
	if err != nil {
		return nil, fmt.Errorf("connecting to the Kubernetes API: %w", err)
	}
	return c, nil
}

// appNamespace is where an Application without a namespace is meant.
func (o *appOptions) appNamespace() string {
	if o.namespace != "" {
		return o.namespace
	}
	return defaultAppNamespace
}

// open returns a client of the Kubernetes API and the delivery of that name.
func (o *appOptions) open(ctx context.Context, name string) (client.WithWatch, client.Object, error) {
	c, err := o.client()
	if err != nil {
		return nil, nil, err
	}
	obj, err := o.find(ctx, c, name)
	return c, obj, err
}

// key is what NAME or NAMESPACE/NAME means for an Application, and whether a
// Kustomization of that name is meant in the same namespace alone.
func (o *appOptions) key(name string) (key client.ObjectKey, there bool) {
	namespace, short, qualified := strings.Cut(name, "/")
	if !qualified {
		namespace, short = o.appNamespace(), name
	}
	return client.ObjectKey{Namespace: namespace, Name: short}, qualified || o.namespace != ""
}

// find returns the delivery of that name: an *argo.Application, or a
// *kustomizev1.Kustomization or a *helmv2.HelmRelease.
func (o *appOptions) find(ctx context.Context, c client.Client, name string) (client.Object, error) {
	key, there := o.key(name)
	app := &argo.Application{}
	err := c.Get(ctx, key, app)
	if err == nil {
		return app, nil
	}
	if !missing(err) {
		return nil, fmt.Errorf("reading Application %s: %w", key, err)
	}
	found, err := findKustomization(ctx, c, key, there)
	if err != nil || found != nil {
		return found, err
	}
	if found, err = findHelmRelease(ctx, c, key, there); err != nil || found != nil {
		return found, err
	}
	return nil, o.nothing(name)
}

// nothing says that there is no delivery of that name.
func (o *appOptions) nothing(name string) error {
	return withHint(fmt.Errorf("there is no Application, Kustomization or HelmRelease %s", name), "'fairway app list' lists them; those outside of namespace "+o.appNamespace()+" are named NAMESPACE/NAME")
}

func ambiguous(kind, name, one, other string) error {
	return withHint(fmt.Errorf("there are %ss %s in namespaces %s and %s", kind, name, one, other), "name one NAMESPACE/NAME")
}

// findKustomization looks in the key's namespace or, where none was named, in
// all; it returns nil where there is none.
func findKustomization(ctx context.Context, c client.Client, key client.ObjectKey, there bool) (client.Object, error) {
	if there {
		k := &kustomizev1.Kustomization{}
		err := c.Get(ctx, key, k)
		if missing(err) {
			return nil, nil
		}
		return k, err
	}
	var list kustomizev1.KustomizationList
	if err := c.List(ctx, &list); err != nil && !missing(err) {
		return nil, fmt.Errorf("listing Kustomizations: %w", err)
	}
	var found *kustomizev1.Kustomization
	for i := range list.Items {
		if list.Items[i].Name != key.Name {
			continue
		}
		if found != nil {
			return nil, ambiguous(kustomizev1.KustomizationKind, key.Name, found.Namespace, list.Items[i].Namespace)
		}
		found = &list.Items[i]
	}
	if found == nil {
		return nil, nil
	}
	return found, nil
}

// missing says that an object, or its whole kind, is not there.
func missing(err error) bool { return apierrors.IsNotFound(err) || meta.IsNoMatchError(err) }

// kindOf is the delivery's kind; typed objects that were read have none.
func kindOf(obj client.Object) string {
	if f, ok := fluxOf(obj); ok {
		return f.kind
	}
	return argo.ApplicationKind
}

// usage marks an error of the command line.
func usage(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// errDifferent ends "app diff" where there is a difference, with nothing said.
func errDifferent() error { return &exitError{Code: exitFailed} }

var errOneName = errors.New("want the name of one application")

// oneName is cobra.ExactArgs(1) with the exit code of a usage error.
func oneName(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return &exitError{exitUsage, errOneName}
	}
	return nil
}
