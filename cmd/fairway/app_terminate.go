package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

func newAppTerminateCommand(o *appOptions) *cobra.Command {
	var timeout int
	cmd := &cobra.Command{
		Use:   "terminate-op NAME",
		Short: "End the sync that runs, and wait until it has ended",
		Long: `End the sync that runs, and wait until it has ended. What it has applied stays,
its hooks that still run are deleted, and it is not tried again by itself before
there is something new to sync, unless the policy heals.

A Kustomization and a HelmRelease have no operations: what they wait for ends
when they are suspended, or when something newer is to be delivered.`,
		Example: "  fairway app terminate-op web-app",
		Args:    oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runAppTerminate(cmd.Context(), o, args[0], time.Duration(timeout)*time.Second, cmd.OutOrStdout())
		},
	}
	cmd.Flags().IntVar(&timeout, "timeout", 60, "seconds to wait; 0 is without end")
	return cmd
}

func runAppTerminate(ctx context.Context, o *appOptions, name string, timeout time.Duration, out io.Writer) error {
	c, obj, err := o.open(ctx, name)
	if err != nil {
		return err
	}
	app, ok := obj.(*argo.Application)
	if !ok {
		return withHint(fmt.Errorf("%s is a %s, which has no operations", name, kindOf(obj)), "suspend it to end what it waits for: spec.suspend")
	}
	for fresh := true; ; fresh = false {
		if !fresh {
			if err := c.Get(ctx, client.ObjectKeyFromObject(app), app); err != nil {
				return fmt.Errorf("reading Application %s: %w", app.Name, err)
			}
		}
		if app.Operation == nil {
			fmt.Fprintf(out, "no operation of '%s' is in progress\n", app.Name)
			return nil
		}
		err := terminate(ctx, c, app)
		if err == nil {
			break
		}
		if !apierrors.IsConflict(err) { // a sync writes as it goes
			return fmt.Errorf("terminating the operation of %s: %w", app.Name, err)
		}
	}
	var done *argo.Application
	err = follow(ctx, c, app, timeout, func(obj client.Object) bool {
		done = obj.(*argo.Application)
		return done.Operation == nil
	})
	if err != nil {
		return err
	}
	message := "it had not begun"
	if s := done.Status.OperationState; s != nil {
		message = s.Message
	}
	fmt.Fprintf(out, "%s: %s\n", app.Name, message)
	return nil
}

// terminate asks for the end of the operation that was read.
func terminate(ctx context.Context, c client.Client, app *argo.Application) error {
	before := app.DeepCopy()
	if app.Status.OperationState == nil {
		app.Operation = nil // it has not begun
	} else {
		app.Status.OperationState.Phase = argo.OperationTerminating
	}
	return c.Patch(ctx, app, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
}
