package main

import (
	"context"
	"net/http"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/api/flux"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/web"
)

// completeNames has a shell complete the first argument of the commands below
// group that take the name of something that is there.
func completeNames(group *cobra.Command, names func(context.Context) ([]string, error)) {
	for _, cmd := range group.Commands() {
		completeNames(cmd, names)
		words := strings.Fields(cmd.Use)
		if cmd.ValidArgsFunction != nil || cmd.Name() == "create" || len(words) < 2 || !strings.HasPrefix(words[1], "NAME") && words[1] != "PROJECT" {
			continue
		}
		cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 && !strings.HasSuffix(words[1], "…") {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			all, err := names(cmd.Context())
			if err != nil {
				return nil, cobra.ShellCompDirectiveError
			}
			return all, cobra.ShellCompDirectiveNoFileComp
		}
	}
}

// namesOf are those of a kind in a namespace, or with their namespaces in all.
func (o *appOptions) namesOf(ctx context.Context, kind schema.GroupVersionKind, namespace string) ([]string, error) {
	c, err := o.client()
	if err != nil {
		return nil, err
	}
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(kind)
	if err := c.List(ctx, list, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	var names []string
	for i := range list.Items {
		name := list.Items[i].Name
		if namespace == "" {
			name = list.Items[i].Namespace + "/" + name
		}
		names = append(names, name)
	}
	return names, nil
}

// appNames are the names that the commands of applications take. Kinds of Flux
// that may not be listed are left out.
func (o *appOptions) appNames(ctx context.Context) ([]string, error) {
	names, err := o.namesOf(ctx, argo.GroupVersion.WithKind(argo.ApplicationKind), o.appNamespace())
	if err != nil {
		return nil, err
	}
	for _, kind := range []schema.GroupVersionKind{flux.Kustomization, flux.HelmRelease} {
		if more, err := o.namesOf(ctx, kind, o.namespace); err == nil {
			names = append(names, more...)
		}
	}
	return names, nil
}

// repoNames are the names of repositories.
func (g *globals) repoNames(ctx context.Context) ([]string, error) {
	api, err := g.api(ctx)
	if err != nil {
		return nil, err
	}
	var repos []web.Repository
	if err := api.do(ctx, http.MethodGet, "/api/v1/repositories", nil, &repos); err != nil {
		return nil, err
	}
	var names []string
	for _, r := range repos {
		if name, err := core.ParseName(r.Name); err == nil {
			names = append(names, name.Short())
		}
	}
	return names, nil
}
