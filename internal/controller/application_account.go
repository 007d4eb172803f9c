package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
	"github.com/fairway-cd/fairway/internal/fleet"
	"github.com/fairway-cd/fairway/internal/kube"
	"github.com/fairway-cd/fairway/internal/mark"
)

// actAs finds out as whom the Application is delivered: as the ServiceAccount
// that its project has for the destination, or, where the project has none for
// any, as ourselves.
func (a *applicationRun) actAs(ctx context.Context) error {
	p, err := a.itsProject(ctx)
	if err != nil {
		return err
	}
	a.delivery.options.As, err = destinationUser(p, a.app, a.at)
	return err
}

// destinationUser is the first of the project's ServiceAccounts that matches,
// as in Argo CD with application.sync.impersonation.enabled: where none does
// nothing is delivered.
func destinationUser(p *argo.AppProject, app *argo.Application, at place) (string, error) {
	dest := app.Spec.Destination
	for i, d := range p.Spec.DestinationServiceAccounts {
		if !matches(d.Namespace, dest.Namespace) || !matches(fleet.NormalServer(d.Server), at.server) {
			continue
		}
		account := strings.TrimSpace(d.DefaultServiceAccount)
		namespace, name, qualified := strings.Cut(account, ":")
		if !qualified {
			namespace, name = dest.Namespace, account
			if namespace == "" {
				namespace = app.Namespace
			}
		}
		if namespace == "" || name == "" || strings.ContainsAny(account, "!*[]{}\\/") || strings.Contains(name, ":") {
			return "", &ProjectError{p.Name, fmt.Sprintf("has no ServiceAccount's name in spec.destinationServiceAccounts[%d].defaultServiceAccount: %q", i, account)}
		}
		return kube.ServiceAccount(namespace, name), nil
	}
	if len(p.Spec.DestinationServiceAccounts) > 0 {
		return "", &ProjectError{p.Name, fmt.Sprintf("has no ServiceAccount in spec.destinationServiceAccounts for server %q and namespace %q", at.server, dest.Namespace)}
	}
	return "", nil
}

// known is what need not be asked of the cluster: nothing, until all of the
// Application was looked at as whom it is delivered now.
func (a *applicationRun) known() func(core.ObjectRef) (mark.Seen, bool) {
	if as := a.delivery.options.As; as != "" && as != a.actedAs {
		return nil
	}
	return a.stages.Watcher.Known(a.delivery.owner)
}

// deleteAs deletes what the Application owns, as whom it was delivered. A
// project that is gone cannot say that any more: then as ourselves.
func (a *applicationRun) deleteAs(ctx context.Context, hooks []*unstructured.Unstructured) (*deploy.Outcome, error) {
	if err := a.actAs(ctx); err != nil && !errors.As(err, new(*noProjectError)) {
		return &deploy.Outcome{Inventory: a.parting.inventory}, err
	}
	return a.stages.Deployer.Delete(ctx, a.deletion(hooks))
}
