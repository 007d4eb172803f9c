package release

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/kube"
	"helm.sh/helm/v4/pkg/release/common"
)

// Options are how an action is done. The zero value waits for what it applies,
// and applies on the server.
type Options struct {
	// Source identifies what the revision is made of: up to 48 letters, digits
	// and "-". MadeOf has it back.
	Source string
	// Timeout is for each wait of the action.
	Timeout time.Duration
	// DisableWait waits for hooks alone, WaitForJobs for Jobs to complete too,
	// PollToWait by polling, as Helm 3 did.
	DisableWait, WaitForJobs, PollToWait bool
	// Health, where set, judges some kinds that are waited for.
	Health                *Health
	DisableHooks          bool
	SkipOpenAPIValidation bool
	// TakeOwnership takes objects over that are there without Helm's labels.
	TakeOwnership bool
	// CreateNamespace and Replace are for an installation.
	CreateNamespace, Replace bool
	// ServerSide is "true", "false", or "auto": as the release was last.
	ServerSide string
	// Force replaces objects where they are not applied on the server.
	Force bool
	// CleanupOnFail deletes what a failed upgrade or rollback has made.
	CleanupOnFail bool
	// MaxHistory is how many revisions stay; 0 is all of them.
	MaxHistory int
	CRDs       CRDPolicy
	// KeepHistory and Propagation (background, foreground, orphan) are for an
	// uninstallation.
	KeepHistory bool
	Propagation string
	// Tests are the names of the tests to run and SkipTests of those not to;
	// neither is all.
	Tests, SkipTests []string
}

// Render runs a chart's templates for a revision.
type Render func(ctx context.Context, asked RenderRequest) (*Rendered, error)

// RenderRequest is what the templates are told of the release.
type RenderRequest struct {
	Release
	Revision int
	Upgrade  bool
	// Values are the user's, over which a revision's are laid that are to be
	// kept.
	Values map[string]any
}

// An action that is ended by its context marks its revision as failed and
// returns the context's error; its waits alone are ended, so that the record
// says how far it came.

// Install makes the release. The record is there also for an error, where the
// action came so far.
func (r *Release) Install(ctx context.Context, render Render, values map[string]any, o Options) (*Record, error) {
	revision, err := r.nextRevision(ctx)
	if err != nil {
		return nil, err
	}
	if !o.Replace {
		revision = 1
	}
	rendered, err := render(ctx, RenderRequest{Release: *r, Revision: 1, Values: values})
	if err != nil {
		return nil, err
	}
	if err := r.applyCRDs(ctx, rendered.CRDs, o); err != nil {
		return nil, err
	}
	waits, err := r.waits(ctx, o)
	if err != nil {
		return nil, err
	}
	s := &swap{rendered.stub(), rendered.Chart}
	install := action.NewInstall(r.configure(ctx, s))
	install.ReleaseName, install.Namespace = r.Name, r.Namespace
	install.Timeout, install.DisableHooks = o.Timeout, o.DisableHooks
	install.WaitStrategy, install.WaitForJobs, install.WaitOptions = o.wait(), o.WaitForJobs, waits
	install.SkipCRDs, install.SkipSchemaValidation = true, true // done
	install.DisableOpenAPIValidation = o.SkipOpenAPIValidation
	install.TakeOwnership, install.CreateNamespace, install.Replace = o.TakeOwnership, o.CreateNamespace, o.Replace
	install.ServerSideApply = o.ServerSide != "false"
	install.ForceConflicts = install.ServerSideApply
	install.Labels = madeOf(revision, o.Source)
	rec, err := install.RunWithContext(context.WithoutCancel(ctx), s.stub, values)
	return r.outcome(ctx, "install", rec, s, err)
}

// Upgrade brings the release to another chart or other values. keepValues lays
// the values over those of the last revision.
func (r *Release) Upgrade(ctx context.Context, render Render, values map[string]any, keepValues bool, o Options) (*Record, error) {
	last, err := r.Last(ctx)
	if err != nil {
		return nil, err
	}
	if last == nil {
		return nil, fmt.Errorf("upgrade release %s: there is none", r.Name)
	}
	values, templated, err := kept(last, values, keepValues)
	if err != nil {
		return nil, fmt.Errorf("upgrade release %s: %w", r.Name, err)
	}
	rendered, err := render(ctx, RenderRequest{Release: *r, Revision: last.Version + 1, Upgrade: true, Values: templated})
	if err != nil {
		return nil, err
	}
	if err := r.applyCRDs(ctx, rendered.CRDs, o); err != nil {
		return nil, err
	}
	waits, err := r.waits(ctx, o)
	if err != nil {
		return nil, err
	}
	s := &swap{rendered.stub(), rendered.Chart}
	upgrade := action.NewUpgrade(r.configure(ctx, s))
	upgrade.Namespace, upgrade.MaxHistory = r.Namespace, o.MaxHistory
	upgrade.Timeout, upgrade.DisableHooks = o.Timeout, o.DisableHooks
	upgrade.WaitStrategy, upgrade.WaitForJobs, upgrade.WaitOptions = o.wait(), o.WaitForJobs, waits
	upgrade.SkipCRDs, upgrade.SkipSchemaValidation = true, true
	upgrade.DisableOpenAPIValidation = o.SkipOpenAPIValidation
	upgrade.TakeOwnership, upgrade.CleanupOnFail = o.TakeOwnership, o.CleanupOnFail
	upgrade.ResetValues = true // what is to be kept is in values
	upgrade.ServerSideApply = o.serverSide()
	onServer := appliesOnServer(upgrade.ServerSideApply, last.ApplyMethod)
	upgrade.ForceConflicts, upgrade.ForceReplace = onServer, o.Force && !onServer
	upgrade.Labels = madeOf(last.Version+1, o.Source)
	rec, err := upgrade.RunWithContext(context.WithoutCancel(ctx), r.Name, s.stub, values)
	return r.outcome(ctx, "upgrade", rec, s, err)
}

// Rollback goes back to a revision, as a new one.
func (r *Release) Rollback(ctx context.Context, to int, o Options) (*Record, error) {
	target, err := r.Get(to)
	if err != nil {
		return nil, err
	}
	if target == nil {
		return nil, fmt.Errorf("roll back release %s: there is no revision %d", r.Name, to)
	}
	waits, err := r.waits(ctx, o)
	if err != nil {
		return nil, err
	}
	rollback := action.NewRollback(r.configure(ctx, nil))
	rollback.Version, rollback.MaxHistory = to, o.MaxHistory
	rollback.Timeout, rollback.DisableHooks = o.Timeout, o.DisableHooks
	rollback.WaitStrategy, rollback.WaitForJobs, rollback.WaitOptions = o.wait(), o.WaitForJobs, waits
	rollback.CleanupOnFail, rollback.ServerSideApply = o.CleanupOnFail, o.serverSide()
	onServer := appliesOnServer(rollback.ServerSideApply, target.ApplyMethod)
	rollback.ForceConflicts, rollback.ForceReplace = onServer, o.Force && !onServer
	return r.outcome(ctx, "roll back", nil, nil, rollback.Run(r.Name))
}

// Test runs the release's tests.
func (r *Release) Test(ctx context.Context, o Options) (*Record, error) {
	test := action.NewReleaseTesting(r.configure(ctx, nil))
	test.Namespace, test.Timeout, test.WaitOptions = r.Namespace, o.Timeout, waitWith(ctx)
	test.Filters = map[string][]string{action.IncludeNameFilter: o.Tests, action.ExcludeNameFilter: o.SkipTests}
	_, shutdown, err := test.Run(r.Name)
	if shutdown != nil {
		err = errors.Join(err, shutdown())
	}
	return r.outcome(ctx, "test", nil, nil, err)
}

// Uninstall takes the release away. One that is not there is none to take.
func (r *Release) Uninstall(ctx context.Context, o Options) error {
	last, err := r.Last(ctx)
	if err != nil || last == nil {
		return err
	}
	if last.Info.Status == common.StatusUninstalled && o.KeepHistory {
		return nil
	}
	uninstall := action.NewUninstall(r.configure(ctx, nil))
	uninstall.IgnoreNotFound, uninstall.KeepHistory = true, o.KeepHistory
	uninstall.Timeout, uninstall.DisableHooks = o.Timeout, o.DisableHooks
	uninstall.WaitStrategy, uninstall.WaitOptions = o.wait(), waitWith(ctx)
	uninstall.DeletionPropagation = o.Propagation
	if uninstall.DeletionPropagation == "" {
		uninstall.DeletionPropagation = "background"
	}
	if _, err := uninstall.Run(r.Name); err != nil {
		return fmt.Errorf("uninstall release %s: %w", r.Name, err)
	}
	return nil
}

// Unlock marks a revision as failed whose action has died.
func (r *Release) Unlock(rec *Record) error {
	was := rec.Info.Status
	rec.SetStatus(common.StatusFailed, fmt.Sprintf("Release unlocked from stale '%s' state", was))
	if err := r.storage(nil).Update(rec); err != nil {
		return fmt.Errorf("unlock revision %d of release %s: %w", rec.Version, r.Name, err)
	}
	return nil
}

// configure is the configuration of an action whose waits end with ctx.
func (r *Release) configure(ctx context.Context, s *swap) *action.Configuration {
	cfg := r.configuration(s)
	if c, ok := cfg.KubeClient.(*kube.Client); ok {
		c.WaitContext = ctx //nolint:staticcheck // Helm's legacy waiter has no other way
	}
	return cfg
}

// outcome is the newest revision after an action, and what went wrong.
func (r *Release) outcome(ctx context.Context, did string, rec any, s *swap, err error) (*Record, error) {
	if cause := ctx.Err(); cause != nil && err != nil {
		err = cause
	}
	if err != nil {
		err = fmt.Errorf("%s release %s: %w", did, r.Name, err)
	}
	newest, readErr := r.Last(context.WithoutCancel(ctx))
	if readErr != nil || newest == nil {
		out, _ := rec.(*Record)
		if out != nil && s != nil {
			out.Chart = s.real
		}
		return out, errors.Join(err, readErr)
	}
	return newest, err
}

func (r *Release) nextRevision(ctx context.Context) (int, error) {
	last, err := r.Last(ctx)
	if err != nil || last == nil {
		return 1, err
	}
	return last.Version + 1, nil
}

func (o Options) wait() kube.WaitStrategy {
	switch {
	case o.DisableWait:
		return kube.HookOnlyStrategy
	case o.PollToWait:
		return kube.LegacyStrategy
	}
	return kube.StatusWatcherStrategy
}

func waitWith(ctx context.Context) []kube.WaitOption {
	return []kube.WaitOption{kube.WithWaitContext(ctx)}
}

func (o Options) serverSide() string {
	if o.ServerSide == "" {
		return "auto"
	}
	return o.ServerSide
}

// appliesOnServer is helm's rule (action.getUpgradeServerSideValue).
func appliesOnServer(asked, last string) bool {
	return asked == "true" || asked == "auto" && last == "ssa"
}

func madeOf(revision int, source string) map[string]string {
	label := strconv.Itoa(revision)
	if source != "" {
		label += "." + source
	}
	return map[string]string{labelRevision: label}
}
