package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/controller"
	"github.com/fairway-cd/fairway/internal/web"
)

// rollbackArgs checks the arguments of "app rollback".
func rollbackArgs(args []string, to string, which *appSelection) error {
	switch {
	case !which.given() && len(args) == 0:
		return usage("want the name of an application")
	case !which.given() && to == "" && len(args) > 2:
		return usage("want one application and where it is to go back to; several applications take --to")
	}
	return which.check(args)
}

// runAppRollbacks rolls several deliveries back together.
func runAppRollbacks(ctx context.Context, o *appOptions, names []string, which *appSelection, asked controller.Rollback, output string, out io.Writer) error {
	if which.given() {
		var err error
		if names, err = which.names(ctx, o); err != nil {
			return err
		}
		if len(names) == 0 {
			return withHint(errors.New("no application is selected"), "'fairway app list' shows what there is")
		}
	}
	api, err := o.api(ctx)
	if err != nil {
		return err
	}
	many := controller.Rollbacks{To: asked.To, Reason: asked.Reason}
	for _, name := range names {
		d, err := o.delivery(ctx, api, name)
		if err != nil {
			return err
		}
		many.Deliveries = append(many.Deliveries, d)
	}
	var result controller.RollbacksResult
	if err := api.do(ctx, http.MethodPost, "/api/v1/rollbacks", many, &result); err != nil {
		return fmt.Errorf("rolling back: %w", err)
	}
	return printData(out, output, result, func(t *tabwriter.Writer) {
		for _, item := range result.Items {
			printRollback(t, item.Name, item.RollbackResult)
		}
	})
}

// delivery is what a name means to the server.
func (o *appOptions) delivery(ctx context.Context, api *apiClient, name string) (controller.RollbackDelivery, error) {
	key, there := o.key(name)
	var named []web.Delivery
	if err := api.do(ctx, http.MethodGet, "/api/v1/deliveries?name="+url.QueryEscape(key.Name), nil, &named); err != nil {
		return controller.RollbackDelivery{}, err
	}
	var found []client.ObjectKey
	for _, d := range named {
		at := client.ObjectKey{Namespace: d.Namespace, Name: d.Name}
		switch {
		case d.Kind == argo.ApplicationKind && at == key:
			return deliveryOf(d.Kind, at), nil
		case d.Kind == kustomizev1.KustomizationKind && (!there || at == key):
			found = append(found, at)
		}
	}
	switch len(found) {
	case 0:
		return controller.RollbackDelivery{}, o.nothing(name)
	case 1:
		return deliveryOf(kustomizev1.KustomizationKind, found[0]), nil
	}
	return controller.RollbackDelivery{}, ambiguous(key.Name, found[0].Namespace, found[1].Namespace)
}

func deliveryOf(kind string, key client.ObjectKey) controller.RollbackDelivery {
	return controller.RollbackDelivery{Kind: kind, Namespace: key.Namespace, Name: key.Name}
}
