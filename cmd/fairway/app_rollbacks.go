package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/controller"
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
	named, err := api.named(ctx, key.Name)
	if err != nil {
		return controller.RollbackDelivery{}, err
	}
	for _, d := range named {
		if at := (client.ObjectKey{Namespace: d.Namespace, Name: d.Name}); d.Kind == argo.ApplicationKind && at == key {
			return deliveryOf(d.Kind, at), nil
		}
	}
	namespace := ""
	if there {
		namespace = key.Namespace
	}
	found := ofFlux(named, namespace)
	switch {
	case len(found) == 0:
		return controller.RollbackDelivery{}, o.nothing(name)
	case len(found) > 1:
		return controller.RollbackDelivery{}, ambiguous(found[0].Kind, key.Name, found[0].Namespace, found[1].Namespace)
	case found[0].Kind == helmv2.HelmReleaseKind:
		return controller.RollbackDelivery{}, helmOnly(found[0].Name, notForHelm["rollback"], "helm list -n "+found[0].Target)
	}
	return deliveryOf(found[0].Kind, client.ObjectKey{Namespace: found[0].Namespace, Name: found[0].Name}), nil
}

func deliveryOf(kind string, key client.ObjectKey) controller.RollbackDelivery {
	return controller.RollbackDelivery{Kind: kind, Namespace: key.Namespace, Name: key.Name}
}
