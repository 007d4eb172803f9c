package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"helm.sh/helm/v4/pkg/release/common"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairway-cd/fairway/internal/deploy"
	"github.com/fairway-cd/fairway/internal/release"
)

// step is what is to be done next for a release.
type step int

const (
	stepNothing step = iota
	stepInstall
	stepUpgrade
	stepTest
	stepRollback
	stepUninstall
	// stepReinstall uninstalls because the chart is another one.
	stepReinstall
	stepUnlock
	// stepWait: somebody else acts on the release.
	stepWait
	// stepRetry waits for the time of the next try.
	stepRetry
	// stepStop: there are no more tries.
	stepStop
)

// maxSteps bounds one reconcile; what is left is done in the next.
const maxSteps = 12

// drive looks at the newest revision, does what is to be done next, and looks
// again, until there is nothing to do. See docs/design/helm-release.md.
func (h *helmReleaseRun) drive(ctx context.Context) (reconcile.Result, error) {
	acting, done := h.releases.interruptible(ctx, h.key, h.hr.Generation)
	defer done()
	for range maxSteps {
		last, err := h.release.Last(ctx)
		if err != nil {
			return h.hold(ctx, "GetLastReleaseFailed", err)
		}
		h.live(last)
		next := h.next(last)
		switch next {
		case stepNothing:
			return h.inSync(ctx, last)
		case stepWait:
			return h.waitForOther(ctx, last)
		case stepRetry:
			return h.retryLater(ctx)
		case stepStop:
			return h.exhausted(ctx)
		}
		if next == stepInstall || next == stepUpgrade {
			if err := h.fetch(ctx); err != nil {
				return h.hold(ctx, helmv2.ArtifactFailedReason, err)
			}
		}
		if err := h.act(acting, next, last); err != nil {
			switch {
			case ctx.Err() != nil:
				return reconcile.Result{}, ctx.Err()
			case errors.Is(context.Cause(acting), errNews):
				return reconcile.Result{RequeueAfter: time.Millisecond}, h.writeStatus(ctx, &h.hr.Status)
			}
			if result, stop, err := h.failed(ctx, next, err); stop {
				return result, err
			}
		}
		if err := h.writeStatus(ctx, &h.hr.Status); err != nil {
			return reconcile.Result{}, err
		}
	}
	return reconcile.Result{RequeueAfter: time.Second}, nil
}

// next decides what is to be done.
func (h *helmReleaseRun) next(last *release.Record) step {
	if last == nil || last.Info.Status == common.StatusUninstalled {
		if h.hr.Status.InstallFailures > 0 && h.hr.GetInstall().GetRemediation().RetriesExhausted(h.hr) && !h.forced {
			return stepStop
		}
		if h.uninstalledByUpgrade() {
			return stepStop
		}
		return stepInstall
	}
	source, ours := release.MadeOf(last)
	switch {
	case last.Info.Status.IsPending():
		if ours || time.Since(last.Info.LastDeployed) > h.hr.GetTimeout().Duration {
			return stepUnlock
		}
		return stepWait
	case last.Info.Status == common.StatusUninstalling:
		return stepReinstall
	}
	if h.forced {
		return stepUpgrade
	}
	wanted := ours && source == h.source || !ours && h.adopted(last)
	if !wanted {
		return h.upgradeTo(last)
	}
	if last.Info.Status == common.StatusFailed || h.testsFailed(last) {
		return h.afterFailure(last)
	}
	if last.Info.Status != common.StatusDeployed {
		return h.upgradeTo(last)
	}
	if h.hr.GetTest().Enable && !h.snapshotOf(last).HasBeenTested() {
		return stepTest
	}
	return stepNothing
}

// uninstalledByUpgrade: a failed upgrade was remediated by uninstalling, and
// there are no more tries.
func (h *helmReleaseRun) uninstalledByUpgrade() bool {
	upgrade := h.hr.GetUpgrade().GetRemediation()
	return h.hr.Status.UpgradeFailures > 0 && upgrade.GetStrategy() == helmv2.UninstallRemediationStrategy && upgrade.RetriesExhausted(h.hr) && !h.forced
}

// upgradeTo brings another revision to what is wanted, if there are tries left.
func (h *helmReleaseRun) upgradeTo(last *release.Record) step {
	st := &h.hr.Status
	if st.UpgradeFailures > 0 && h.hr.GetUpgrade().GetRemediation().RetriesExhausted(h.hr) && h.hr.GetUpgrade().GetRetry(false) == nil {
		return stepStop
	}
	if last.Chart.Metadata.Name != h.chart.name && h.hr.GetUpgrade().GetChartNameChangeStrategy() == helmv2.ChartNameChangeStrategyReinstall {
		return stepReinstall
	}
	return stepUpgrade
}

// adopted: Flux' own controller has made the revision, of what is wanted, and
// nobody has touched it since.
func (h *helmReleaseRun) adopted(last *release.Record) bool {
	known := h.hr.Status.History.Latest()
	return known != nil && known.Version == last.Version && known.Status == last.Info.Status.String() &&
		known.ChartName == h.chart.name && known.ChartVersion == h.chart.version && known.ConfigDigest == h.config &&
		release.ConfigDigest(last.Config) == h.config && len(h.hr.Spec.PostRenderers) == 0 && h.hr.Spec.CommonMetadata == nil
}

// afterFailure is what becomes of a revision that is what is wanted, and
// failed.
func (h *helmReleaseRun) afterFailure(last *release.Record) step {
	st := &h.hr.Status
	if retry := h.hr.GetActiveRetry(false); retry != nil {
		if h.attempted || !h.why.has(timerFired|specChanged) && st.Failures > 0 {
			return stepRetry
		}
		return stepUpgrade
	}
	remediation := h.hr.GetActiveRemediation()
	if remediation == nil || remediation.GetFailureCount(h.hr) == 0 {
		return stepUpgrade // the failure was of another state, or is forgiven
	}
	if remediation.RetriesExhausted(h.hr) && !remediation.MustRemediateLastFailure() {
		return stepStop
	}
	if remediation.GetStrategy() == helmv2.UninstallRemediationStrategy {
		return stepUninstall
	}
	if h.rollbackTo(last) == nil {
		return stepStop
	}
	return stepRollback
}

// rollbackTo is the last revision that was good, and nil where there is none.
func (h *helmReleaseRun) rollbackTo(last *release.Record) *helmv2.Snapshot {
	remediation := h.hr.GetUpgrade().GetRemediation()
	previous := h.hr.Status.History.Previous(remediation.MustIgnoreTestFailures(h.hr.GetTest().IgnoreFailures))
	if previous == nil || previous.Version >= last.Version {
		return nil
	}
	if rec, err := h.release.Get(previous.Version); err != nil || rec == nil {
		return nil
	}
	return previous
}

// testsFailed: the release is to be taken for failed because its tests did.
func (h *helmReleaseRun) testsFailed(last *release.Record) bool {
	test := h.hr.GetTest()
	if !test.Enable || !h.snapshotOf(last).HasTestInPhase("Failed") {
		return false
	}
	remediation := h.hr.GetActiveRemediation()
	return remediation != nil && !remediation.MustIgnoreTestFailures(test.IgnoreFailures)
}

// act does one step. What became of it is in the status.
func (h *helmReleaseRun) act(ctx context.Context, next step, last *release.Record) error {
	st := &h.hr.Status
	began := time.Now()
	var took steps
	var err error
	switch next {
	case stepInstall:
		st.LastAttemptedReleaseAction = helmv2.ReleaseActionInstall
		h.progress("Running 'install' action with timeout of " + h.hr.GetInstall().GetTimeout(h.hr.GetTimeout()).Duration.String())
		if err := h.writeStatus(ctx, st); err != nil {
			return err
		}
		var rec *release.Record
		rec, err = h.release.Install(ctx, timed(h.render(h.hr.GetInstall().DisableSchemaValidation), &took.render), h.values, h.installOptions(last))
		err = h.ended(ctx, last, rec, helmv2.ReleaseActionInstall, err)
	case stepUpgrade:
		st.LastAttemptedReleaseAction = helmv2.ReleaseActionUpgrade
		h.progress("Running 'upgrade' action with timeout of " + h.hr.GetUpgrade().GetTimeout(h.hr.GetTimeout()).Duration.String())
		if err := h.writeStatus(ctx, st); err != nil {
			return err
		}
		var rec *release.Record
		rec, err = h.release.Upgrade(ctx, timed(h.render(h.hr.GetUpgrade().DisableSchemaValidation), &took.render), h.values, h.hr.GetUpgrade().PreserveValues, h.upgradeOptions())
		err = h.ended(ctx, last, rec, helmv2.ReleaseActionUpgrade, err)
		h.forced = false
	case stepTest:
		var rec *release.Record
		rec, err = h.release.Test(ctx, h.testOptions())
		return h.tested(rec, err)
	case stepRollback:
		err = h.rollback(ctx, last)
	case stepUninstall:
		err = h.release.Uninstall(ctx, h.uninstallOptions())
		h.uninstalled(last, err)
	case stepReinstall:
		if err = h.release.Uninstall(ctx, h.uninstallOptions()); err == nil {
			st.ClearHistory()
		}
	case stepUnlock:
		if err = h.release.Unlock(last); err == nil {
			h.event(h.object, "Warning", "PendingRelease", fmt.Sprintf("%s was left pending, and is taken for failed", recordName(last)))
		}
	}
	if next == stepInstall || next == stepUpgrade {
		st.LastAttemptedReleaseActionDuration = &metav1.Duration{Duration: time.Since(began).Round(time.Millisecond)}
		if err == nil {
			h.noteDelivered(began, took.render)
		}
	}
	return err
}

// ended takes an installation or an upgrade into the status, unless it was
// ended for something newer: that says nothing of what it was to release.
func (h *helmReleaseRun) ended(ctx context.Context, last, rec *release.Record, action helmv2.ReleaseAction, err error) error {
	if err != nil && ctx.Err() != nil {
		h.stats.sync(deploy.ErrSuperseded)
		return err
	}
	h.stats.sync(err)
	return h.released(last, rec, action, err)
}

func (h *helmReleaseRun) rollback(ctx context.Context, last *release.Record) error {
	to := h.rollbackTo(last)
	if to == nil {
		return errors.New("there is no earlier revision to go back to")
	}
	rec, err := h.release.Rollback(ctx, to.Version, h.rollbackOptions())
	h.rolledBack(rec, to, err)
	return err
}

// failed decides whether a step that failed ends the reconcile. An action that
// has counters is looked at by next.
func (h *helmReleaseRun) failed(ctx context.Context, did step, err error) (result reconcile.Result, stop bool, _ error) {
	st := &h.hr.Status
	switch did {
	case stepInstall:
		st.InstallFailures++
	case stepUpgrade:
		st.UpgradeFailures++
	case stepTest:
		remediation := h.hr.GetActiveRemediation()
		if remediation == nil || remediation.MustIgnoreTestFailures(h.hr.GetTest().IgnoreFailures) {
			return reconcile.Result{}, false, nil
		}
		remediation.IncrementFailureCount(h.hr)
	default:
		h.failures++
		st.Failures++
		h.summarize()
		if err := h.writeStatus(ctx, st); err != nil {
			return reconcile.Result{}, true, err
		}
		return reconcile.Result{RequeueAfter: h.again(h.failures, err)}, true, nil
	}
	st.Failures++
	h.attempted = true
	var unreleased *unreleasedError
	if errors.As(err, &unreleased) {
		// Nothing was recorded, so there is nothing to remediate: it is tried
		// again, as often as the spec has it.
		return h.unreleased(ctx, did, err)
	}
	return reconcile.Result{}, false, nil
}

// unreleased paces the tries of an action that came to no revision.
func (h *helmReleaseRun) unreleased(ctx context.Context, did step, err error) (reconcile.Result, bool, error) {
	remediation := h.hr.GetInstall().GetRemediation()
	if did == stepUpgrade {
		remediation = h.hr.GetUpgrade().GetRemediation()
	}
	if h.hr.GetActiveRetry(false) != nil {
		result, err := h.retryLater(ctx)
		return result, true, err
	}
	if remediation.RetriesExhausted(h.hr) {
		result, err := h.exhausted(ctx)
		return result, true, err
	}
	h.summarize()
	if err := h.writeStatus(ctx, &h.hr.Status); err != nil {
		return reconcile.Result{}, true, err
	}
	return reconcile.Result{RequeueAfter: h.again(int(h.hr.Status.Failures), err)}, true, nil
}

// fetch opens the chart, if that was not done.
func (h *helmReleaseRun) fetch(ctx context.Context) error {
	if h.tree != nil {
		return nil
	}
	var err error
	h.tree, err = h.chart.open(ctx, h.stages.Sources)
	return err
}

// unreleasedError says that an action has left no revision.
type unreleasedError struct{ err error }

func (e *unreleasedError) Error() string { return e.err.Error() }
func (e *unreleasedError) Unwrap() error { return e.err }
