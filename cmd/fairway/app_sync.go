package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/user"
	"strings"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/spf13/cobra"
	authenticationv1 "k8s.io/api/authentication/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/api/flux"
)

// appSyncFlags have the names that "argocd app sync" gives them.
type appSyncFlags struct {
	revision                    string
	prune, dryRun, force, async bool
	resources, syncOptions      []string
	strategy                    string
	outOfSyncOnly, replace, ssa bool
	retryLimit                  int64
	timeout                     int
}

func newAppSyncCommand(o *appOptions) *cobra.Command {
	f := &appSyncFlags{}
	cmd := &cobra.Command{
		Use:     "sync NAME",
		Short:   "Sync an application now, and wait until that is done",
		Example: "  fairway app sync web-app\n  fairway app sync web-app --prune --resource apps:Deployment:web-app",
		Args:    oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runAppSync(cmd.Context(), o, f, args[0], cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.revision, "revision", "", "sync this revision in place of the target revision")
	flags.BoolVar(&f.prune, "prune", false, "remove what is no longer in the source")
	flags.BoolVar(&f.dryRun, "dry-run", false, "change nothing")
	flags.BoolVar(&f.force, "force", false, "delete and make again what cannot be changed in place")
	flags.BoolVar(&f.async, "async", false, "do not wait")
	flags.StringArrayVar(&f.resources, "resource", nil, "only GROUP:KIND:[NAMESPACE/]NAME; can be repeated")
	flags.StringArrayVar(&f.syncOptions, "sync-option", nil, "sync option NAME=VALUE; can be repeated")
	flags.StringVar(&f.strategy, "strategy", "", "apply, or hook (the default)")
	flags.BoolVar(&f.outOfSyncOnly, "apply-out-of-sync-only", false, "only what is out of sync")
	flags.BoolVar(&f.replace, "replace", false, "replace objects in place of applying them")
	flags.BoolVar(&f.ssa, "server-side", true, "accepted and without effect: we always apply on the server's side")
	flags.Int64Var(&f.retryLimit, "retry-limit", 0, "how often to try again")
	flags.IntVar(&f.timeout, "timeout", 0, "seconds to wait; 0 is without end")
	return cmd
}

func runAppSync(ctx context.Context, o *appOptions, f *appSyncFlags, name string, out io.Writer) error {
	c, obj, err := o.open(ctx, name)
	if err != nil {
		return err
	}
	timeout := time.Duration(f.timeout) * time.Second
	if state, ok := fluxOf(obj); ok {
		if err := f.forFlux(state, name); err != nil {
			return err
		}
		return syncFlux(ctx, c, obj, f.async, timeout, out)
	}
	app := obj.(*argo.Application)
	op, err := f.operation(app)
	if err != nil {
		return err
	}
	op.InitiatedBy.Username = whoAmI(ctx, c)
	if app.Operation != nil {
		return withHint(fmt.Errorf("another operation of %s is in progress", name), "wait for it with 'fairway app wait "+name+" --operation'")
	}
	if w := windowsOf(ctx, c, app); w != nil && !w.manual.Permitted {
		return withHint(fmt.Errorf("sync of %s is forbidden now by %s", name, w.manual.Because), "'fairway app get "+name+"' says until when; a window with manualSync permits it")
	}
	before := app.DeepCopy()
	started := time.Now()
	app.Operation = op
	// With the version that was read: who is faster wins, and both are told.
	if err := c.Patch(ctx, app, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("asking for a sync of %s: %w", name, err)
	}
	if f.async {
		fmt.Fprintf(out, "sync of '%s' asked for\n", app.Name)
		return nil
	}
	var done *argo.Application
	err = follow(ctx, c, app, timeout, func(obj client.Object) bool {
		done = obj.(*argo.Application)
		s := done.Status.OperationState
		return done.Operation == nil && s != nil && s.Phase.Completed() && !s.StartedAt.Time.Before(started.Truncate(time.Second))
	})
	var late *waitedError
	if errors.As(err, &late) && done != nil && done.Status.OperationState != nil && !done.Status.OperationState.Phase.Completed() {
		s := done.Status.OperationState
		return fmt.Errorf("sync of %s is not through after %s: %s: %s", app.Name, late.after, s.Phase, s.Message)
	}
	if err != nil {
		return err
	}
	return printOperation(out, done)
}

// printOperation says what the last operation did; one that failed is an error.
func printOperation(out io.Writer, app *argo.Application) error {
	s := app.Status.OperationState
	if s.SyncResult != nil {
		for _, r := range s.SyncResult.Resources {
			group := r.Group
			if group != "" {
				group = "." + group
			}
			fmt.Fprintf(out, "%s%s %s/%s: %s\n", r.Kind, group, r.Namespace, r.Name, r.Message)
		}
	}
	if s.Phase != argo.OperationSucceeded {
		return fmt.Errorf("sync of %s: %s: %s", app.Name, s.Phase, s.Message)
	}
	fmt.Fprintf(out, "%s: %s\n", app.Name, s.Message)
	return nil
}

func (f *appSyncFlags) operation(app *argo.Application) (*argo.Operation, error) {
	sync := &argo.SyncOperation{Revision: f.revision, Prune: f.prune, DryRun: f.dryRun, SyncOptions: f.syncOptions}
	if p := app.Spec.SyncPolicy; p != nil {
		sync.SyncOptions = append(append([]string{}, p.SyncOptions...), sync.SyncOptions...)
	}
	if f.outOfSyncOnly {
		sync.SyncOptions = append(sync.SyncOptions, "ApplyOutOfSyncOnly=true")
	}
	if f.replace {
		sync.SyncOptions = append(sync.SyncOptions, "Replace=true")
	}
	switch f.strategy {
	case "", "hook":
		sync.SyncStrategy = &argo.SyncStrategy{Hook: &argo.SyncStrategyHook{SyncStrategyApply: argo.SyncStrategyApply{Force: f.force}}}
	case "apply":
		sync.SyncStrategy = &argo.SyncStrategy{Apply: &argo.SyncStrategyApply{Force: f.force}}
	default:
		return nil, usage("--strategy %q: want apply or hook", f.strategy)
	}
	for _, r := range f.resources {
		parts := strings.SplitN(r, ":", 3)
		if len(parts) != 3 {
			return nil, usage("--resource %q: want GROUP:KIND:[NAMESPACE/]NAME", r)
		}
		namespace, name, ok := strings.Cut(parts[2], "/")
		if !ok {
			namespace, name = namespaceOf(app, parts[0], parts[1], parts[2]), parts[2]
		}
		sync.Resources = append(sync.Resources, argo.SyncOperationResource{Group: parts[0], Kind: parts[1], Namespace: namespace, Name: name})
	}
	return &argo.Operation{Sync: sync, Retry: argo.RetryStrategy{Limit: f.retryLimit}}, nil
}

// namespaceOf is where the application has an object of that name.
func namespaceOf(app *argo.Application, group, kind, name string) string {
	for _, r := range app.Status.Resources {
		if r.Group == group && r.Kind == kind && r.Name == name {
			return r.Namespace
		}
	}
	return app.Spec.Destination.Namespace
}

// whoAmI is what the cluster calls us, or the name on this machine.
func whoAmI(ctx context.Context, c client.Client) string {
	review := &authenticationv1.SelfSubjectReview{}
	if err := c.Create(ctx, review); err == nil {
		return review.Status.UserInfo.Username
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "unknown"
}

func syncFlux(ctx context.Context, c client.WithWatch, obj client.Object, async bool, timeout time.Duration, out io.Writer) error {
	token := time.Now().Format(time.RFC3339Nano)
	if err := annotate(ctx, c, obj, map[string]string{flux.AnnotationReconcile: token}); err != nil {
		return err
	}
	if async {
		fmt.Fprintf(out, "reconciliation of '%s' asked for\n", obj.GetName())
		return nil
	}
	var state fluxState
	err := follow(ctx, c, obj, timeout, func(o client.Object) bool {
		state, _ = fluxOf(o)
		return state.handled == token
	})
	if err != nil {
		return err
	}
	ready := apimeta.FindStatusCondition(state.conditions, "Ready")
	if ready == nil || ready.Status != "True" {
		row := appRow{}
		row.state(state)
		return fmt.Errorf("%s is not ready: %s", obj.GetName(), row.Message)
	}
	fmt.Fprintln(out, ready.Message)
	return nil
}

// follow watches the object until done says so; timeout 0 is without end.
func follow(ctx context.Context, c client.WithWatch, obj client.Object, timeout time.Duration, done func(client.Object) bool) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, &waitedError{obj.GetName(), timeout})
		defer cancel()
	}
	for {
		ended, err := followOnce(ctx, c, obj, done)
		if ended || err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// waitedError says that something did not happen in time.
type waitedError struct {
	name  string
	after time.Duration
}

func (e *waitedError) Error() string {
	return fmt.Sprintf("%s: what was asked for was not seen within %s", e.name, e.after)
}

// followOnce is one watch; the API server ends them now and then.
func followOnce(ctx context.Context, c client.WithWatch, obj client.Object, done func(client.Object) bool) (bool, error) {
	var list client.ObjectList = &argo.ApplicationList{}
	switch obj.(type) {
	case *kustomizev1.Kustomization:
		list = &kustomizev1.KustomizationList{}
	case *helmv2.HelmRelease:
		list = &helmv2.HelmReleaseList{}
	}
	w, err := c.Watch(ctx, list, client.InNamespace(obj.GetNamespace()),
		client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("metadata.name", obj.GetName())})
	if err != nil {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		return false, fmt.Errorf("watching %s: %w", obj.GetName(), err)
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		seen, ok := e.Object.(client.Object)
		switch {
		case e.Type == watch.Deleted:
			return false, fmt.Errorf("%s was deleted meanwhile", obj.GetName())
		case ok && e.Type != watch.Error && e.Type != watch.Bookmark && done(seen):
			return true, nil
		}
	}
	return false, nil
}

func newAppWaitCommand(o *appOptions) *cobra.Command {
	var want appWait
	var timeout int
	cmd := &cobra.Command{
		Use:   "wait NAME…",
		Short: "Wait until applications are synced, healthy and at rest",
		Example: `  fairway app wait web-app
  fairway app wait web-app --health --timeout 60
  git push && fairway app wait web-app --revision $(git rev-parse HEAD)`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &exitError{exitUsage, errors.New("want the name of an application, or several")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if want == (appWait{revision: want.revision}) {
				want.sync, want.health, want.operation = true, true, true
			}
			end := time.Now().Add(time.Duration(timeout) * time.Second)
			for _, name := range args {
				var left time.Duration
				if timeout > 0 {
					left = max(time.Until(end), time.Millisecond)
				}
				if err := runAppWait(cmd.Context(), o, name, want, left, cmd.OutOrStdout()); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&want.sync, "sync", false, "wait until it is synced")
	cmd.Flags().BoolVar(&want.health, "health", false, "wait until it is healthy")
	cmd.Flags().BoolVar(&want.operation, "operation", false, "wait until no operation runs")
	cmd.Flags().StringVar(&want.revision, "revision", "", "wait until it is done with this commit, whether that changes it or not")
	cmd.Flags().IntVar(&timeout, "timeout", 0, "seconds to wait; 0 is without end")
	return cmd
}

// appWait is what is waited for.
type appWait struct {
	sync, health, operation bool
	// revision is a commit, or its beginning; "" is any.
	revision string
}

func (a appWait) done(r appRow, operates bool) bool {
	return strings.HasPrefix(r.commit, a.revision) && (!a.sync || r.Sync == "Synced") && (!a.health || r.Health == "Healthy") && (!a.operation || !operates)
}

func runAppWait(ctx context.Context, o *appOptions, name string, want appWait, timeout time.Duration, out io.Writer) error {
	c, obj, err := o.open(ctx, name)
	if err != nil {
		return err
	}
	w := &waiting{name: name, want: want, out: out, live: isTerminal(out), began: time.Now()}
	if err = o.untilDone(ctx, c, obj, w, timeout); w.live {
		fmt.Fprintln(out)
	}
	var late *waitedError
	if errors.As(err, &late) {
		return fmt.Errorf("after %s %s", timeout.Round(time.Second), w.last)
	}
	return err
}

func waitLine(r appRow, operates bool) string {
	line := fmt.Sprintf("%s %s %s", r.Sync, r.Health, r.Revision)
	if operates {
		line += " (syncing)"
	}
	if r.Message != "" {
		line += ": " + strings.ReplaceAll(r.Message, "\n", " ")
	}
	return line
}

// showWait writes one line over the last on a terminal, else one below it.
func showWait(out io.Writer, live bool, after time.Duration, line string) {
	if live {
		fmt.Fprintf(out, "\r\x1b[K%6.1fs %.200s", after.Seconds(), line)
		return
	}
	fmt.Fprintf(out, "%6.1fs %s\n", after.Seconds(), line)
}
