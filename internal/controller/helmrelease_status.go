package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/fluxcd/pkg/apis/meta"
	"helm.sh/helm/v4/pkg/release/common"
	helm "helm.sh/helm/v4/pkg/release/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairway-cd/fairway/internal/release"
)

// reasonRetriesExceeded is Flux' reason of a HelmRelease that is not tried any
// more.
const reasonRetriesExceeded = "RetriesExceeded"

func (h *helmReleaseRun) set(kind string, status metav1.ConditionStatus, reason, message string) {
	const longest = 20000
	if len(message) > longest {
		message = strings.ToValidUTF8(message[:longest], "") + "…"
	}
	apimeta.SetStatusCondition(&h.hr.Status.Conditions, metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: h.hr.Generation,
	})
}

// say is what is wrong, for people.
func (h *helmReleaseRun) say(err error) string { return h.private.hide(explain(err)) }

func (h *helmReleaseRun) unset(kind string) {
	apimeta.RemoveStatusCondition(&h.hr.Status.Conditions, kind)
}

// progress says what is being done.
func (h *helmReleaseRun) progress(message string) {
	setReady(&h.hr.Status.Conditions, h.hr.Generation, metav1.ConditionUnknown, meta.ProgressingReason, message)
}

// observedNow writes that the newest spec and the newest request were seen.
func (h *helmReleaseRun) observedNow() {
	h.hr.Status.ObservedGeneration, h.hr.Status.LastHandledReconcileAt = h.hr.Generation, h.asked
}

// hold says what keeps the release from being looked at; what was released
// stays. It is tried again.
func (h *helmReleaseRun) hold(ctx context.Context, reason string, err error) (reconcile.Result, error) {
	if ctx.Err() != nil {
		return reconcile.Result{}, ctx.Err()
	}
	if errors.As(err, new(*SpecError)) {
		return h.stall(ctx, "InvalidSpec", "InvalidSpec", err)
	}
	h.failures++
	h.observedNow()
	h.announce("Warning", reason, h.say(err))
	setReady(&h.hr.Status.Conditions, h.hr.Generation, metav1.ConditionFalse, reason, h.say(err))
	if err := h.writeStatus(ctx, &h.hr.Status); err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: h.again(h.failures, err)}, nil
}

// stall says that nothing will change before the spec does.
func (h *helmReleaseRun) stall(ctx context.Context, ready, stalled string, err error) (reconcile.Result, error) {
	h.observedNow()
	h.announce("Warning", stalled, h.say(err))
	setReady(&h.hr.Status.Conditions, h.hr.Generation, metav1.ConditionFalse, ready, h.say(err))
	h.unset(meta.ReconcilingCondition)
	h.set(meta.StalledCondition, metav1.ConditionTrue, stalled, h.say(err))
	return reconcile.Result{}, h.writeStatus(ctx, &h.hr.Status)
}

// announce records an event, unless the condition says the same already.
func (h *helmReleaseRun) announce(kind, reason, message string) {
	ready := apimeta.FindStatusCondition(h.before.Conditions, meta.ReadyCondition)
	if ready == nil || ready.Reason != reason || ready.Message != message {
		h.event(h.object, kind, reason, message)
	}
}

// exhausted says that there are no more tries. Ready says what went wrong.
func (h *helmReleaseRun) exhausted(ctx context.Context) (reconcile.Result, error) {
	st := &h.hr.Status
	did, n := "install", st.InstallFailures
	if st.UpgradeFailures > 0 {
		did, n = "upgrade", st.UpgradeFailures
	}
	h.observedNow()
	h.summarize()
	message := fmt.Sprintf("Failed to %s after %d attempt(s)", did, n)
	h.unset(meta.ReconcilingCondition)
	if stalled := apimeta.FindStatusCondition(h.before.Conditions, meta.StalledCondition); stalled == nil || stalled.Message != message {
		h.event(h.object, "Warning", reasonRetriesExceeded, message)
	}
	h.set(meta.StalledCondition, metav1.ConditionTrue, reasonRetriesExceeded, message)
	return reconcile.Result{}, h.writeStatus(ctx, st)
}

// retryLater waits for the next try of the strategy RetryOnFailure.
func (h *helmReleaseRun) retryLater(ctx context.Context) (reconcile.Result, error) {
	h.observedNow()
	h.summarize()
	wait := h.hr.GetActiveRetry(false).GetRetryInterval()
	return reconcile.Result{RequeueAfter: jitter(wait)}, h.writeStatus(ctx, &h.hr.Status)
}

// waitForOther waits until somebody else's action has ended.
func (h *helmReleaseRun) waitForOther(ctx context.Context, last *release.Record) (reconcile.Result, error) {
	left := time.Until(last.Info.LastDeployed.Add(h.hr.GetTimeout().Duration))
	h.observedNow()
	setReady(&h.hr.Status.Conditions, h.hr.Generation, metav1.ConditionFalse, "PendingRelease",
		fmt.Sprintf("%s is %s by somebody else; it is taken for failed after the timeout of %s", recordName(last), last.Info.Status, h.hr.GetTimeout().Duration))
	const look = 5 * time.Second // nobody tells us of its end
	return reconcile.Result{RequeueAfter: max(time.Second, min(left, look))}, h.writeStatus(ctx, &h.hr.Status)
}

// summarize makes Ready what the newest of the other conditions says, as Flux
// does.
func (h *helmReleaseRun) summarize() {
	kinds := []string{helmv2.RemediatedCondition}
	if test := h.hr.GetTest(); test.Enable && !test.IgnoreFailures {
		kinds = append(kinds, helmv2.TestSuccessCondition)
	}
	for _, kind := range append(kinds, helmv2.ReleasedCondition) {
		c := apimeta.FindStatusCondition(h.hr.Status.Conditions, kind)
		if c == nil {
			continue
		}
		status := c.Status
		if kind == helmv2.RemediatedCondition {
			status = metav1.ConditionFalse // it is not what was asked for
		}
		setReady(&h.hr.Status.Conditions, h.hr.Generation, status, c.Reason, c.Message)
		return
	}
}

// released takes an installation or an upgrade into the status. The error is
// an *unreleasedError where there is no new revision after last.
func (h *helmReleaseRun) released(last, rec *release.Record, action helmv2.ReleaseAction, err error) error {
	did, good, bad := "install", helmv2.InstallSucceededReason, helmv2.InstallFailedReason
	if action == helmv2.ReleaseActionUpgrade {
		did, good, bad = "upgrade", helmv2.UpgradeSucceededReason, helmv2.UpgradeFailedReason
	}
	h.unset(helmv2.RemediatedCondition)
	h.unset(helmv2.TestSuccessCondition)
	h.unset(helmv2.DriftedCondition)
	if rec != nil && last != nil && rec.Version == last.Version {
		rec = nil
	}
	if rec != nil && rec.Version > 0 {
		h.observe(rec, action)
	}
	if err != nil {
		message := fmt.Sprintf("Helm %s failed for release %s/%s with chart %s@%s: %s", did, h.hr.GetReleaseNamespace(), h.hr.GetReleaseName(), h.chart.name, h.chart.version, h.say(err))
		h.set(helmv2.ReleasedCondition, metav1.ConditionFalse, bad, message)
		h.event(h.object, "Warning", bad, message)
		if rec == nil {
			return &unreleasedError{err}
		}
		return err
	}
	message := fmt.Sprintf("Helm %s succeeded for release %s with chart %s@%s", did, recordName(rec), h.chart.name, h.chart.version)
	h.set(helmv2.ReleasedCondition, metav1.ConditionTrue, good, message)
	h.event(h.object, "Normal", good, message)
	return nil
}

// tested takes a run of the tests into the status; the error is that of a
// failed test.
func (h *helmReleaseRun) tested(rec *release.Record, err error) error {
	if rec == nil {
		return err
	}
	snapshot := h.observe(rec, "")
	hooks := map[string]*helmv2.TestHookStatus{}
	failed := 0
	for _, hook := range rec.Hooks {
		if !slices.Contains(hook.Events, helm.HookTest) {
			continue
		}
		run := &helmv2.TestHookStatus{Phase: hook.LastRun.Phase.String()}
		if !hook.LastRun.StartedAt.IsZero() {
			run.LastStarted, run.LastCompleted = metav1.NewTime(hook.LastRun.StartedAt), metav1.NewTime(hook.LastRun.CompletedAt)
		}
		if hook.LastRun.Phase == helm.HookPhaseFailed {
			failed++
		}
		hooks[hook.Name] = run
	}
	if err != nil && failed == 0 {
		return err // it did not come to a test
	}
	snapshot.SetTestHooks(hooks)
	of := fmt.Sprintf("release %s with chart %s@%s", recordName(rec), h.chart.name, h.chart.version)
	if err != nil {
		message := fmt.Sprintf("Helm test failed for %s: %s", of, h.say(err))
		h.set(helmv2.TestSuccessCondition, metav1.ConditionFalse, helmv2.TestFailedReason, message)
		h.event(h.object, "Warning", helmv2.TestFailedReason, message)
		return err
	}
	message := fmt.Sprintf("Helm test succeeded for %s: %d test hooks completed successfully", of, len(hooks))
	if len(hooks) == 0 {
		message = fmt.Sprintf("Helm test succeeded for %s: no test hooks", of)
	}
	h.set(helmv2.TestSuccessCondition, metav1.ConditionTrue, helmv2.TestSucceededReason, message)
	h.event(h.object, "Normal", helmv2.TestSucceededReason, message)
	return nil
}

func (h *helmReleaseRun) rolledBack(rec *release.Record, to *helmv2.Snapshot, err error) {
	if rec != nil && rec.Version > to.Version {
		h.observe(rec, helmv2.ReleaseActionRollback)
	}
	name := fmt.Sprintf("Helm rollback to previous release %s with chart %s", to.FullReleaseName(), to.VersionedChartName())
	h.remediated(name, helmv2.RollbackSucceededReason, helmv2.RollbackFailedReason, err)
}

func (h *helmReleaseRun) uninstalled(last *release.Record, err error) {
	name := fmt.Sprintf("Helm uninstall remediation for release %s with chart %s@%s", recordName(last), last.Chart.Metadata.Name, last.Chart.Metadata.Version)
	if err == nil {
		h.hr.Status.ClearHistory()
		h.hr.Status.Inventory = nil
	}
	h.remediated(name, helmv2.UninstallSucceededReason, helmv2.UninstallFailedReason, err)
}

func (h *helmReleaseRun) remediated(what, good, bad string, err error) {
	if err != nil {
		message := what + " failed: " + h.say(err)
		h.set(helmv2.RemediatedCondition, metav1.ConditionFalse, bad, message)
		h.event(h.object, "Warning", bad, message)
		return
	}
	h.set(helmv2.RemediatedCondition, metav1.ConditionTrue, good, what+" succeeded")
	h.event(h.object, "Normal", good, what+" succeeded")
}

// inSync writes that the release is what is wanted, after a look at whether
// the cluster is what the release says.
func (h *helmReleaseRun) inSync(ctx context.Context, last *release.Record) (reconcile.Result, error) {
	st := &h.hr.Status
	if h.snapshotOf(last) == nil || h.snapshotOf(last).Status != last.Info.Status.String() {
		h.observe(last, "") // it was released, and that was not written
	}
	if err := h.drift(ctx, last); err != nil {
		return h.hold(ctx, "DriftDetectionFailed", err)
	}
	if c := apimeta.FindStatusCondition(st.Conditions, helmv2.ReleasedCondition); c == nil || c.Status != metav1.ConditionTrue {
		reason, did := helmv2.UpgradeSucceededReason, "upgrade"
		if last.Version == 1 {
			reason, did = helmv2.InstallSucceededReason, "install"
		}
		h.set(helmv2.ReleasedCondition, metav1.ConditionTrue, reason,
			fmt.Sprintf("Helm %s succeeded for release %s with chart %s@%s", did, recordName(last), h.chart.name, h.chart.version))
	}
	if c := apimeta.FindStatusCondition(st.Conditions, helmv2.RemediatedCondition); c != nil {
		h.unset(helmv2.RemediatedCondition)
	}
	for _, kind := range []string{helmv2.ReleasedCondition, helmv2.TestSuccessCondition} {
		if c := apimeta.FindStatusCondition(st.Conditions, kind); c != nil {
			c.ObservedGeneration = h.hr.Generation
		}
	}
	if !h.hr.GetTest().Enable {
		h.unset(helmv2.TestSuccessCondition)
	}
	st.ClearFailures()
	h.failures = 0
	h.observedNow()
	h.summarize()
	st.ObservedPostRenderersDigest, st.ObservedCommonMetadataDigest = "", ""
	if len(h.hr.Spec.PostRenderers) > 0 {
		st.ObservedPostRenderersDigest = "sha256:" + digest(h.hr.Spec.PostRenderers)
	}
	if h.hr.Spec.CommonMetadata != nil {
		st.ObservedCommonMetadataDigest = "sha256:" + digest(h.hr.Spec.CommonMetadata)
	}
	if err := h.takeInventory(ctx, last); err != nil {
		return h.hold(ctx, helmv2.InventoryBuildFailedReason, err)
	}
	if err := h.writeStatus(ctx, st); err != nil {
		return reconcile.Result{}, err
	}
	if h.deployed != h.source || !apimeta.IsStatusConditionTrue(h.before.Conditions, meta.ReadyCondition) || h.before.ObservedGeneration != h.hr.Generation {
		h.releases.wakeDependents(helmReleaseDep(h.key), specChanged)
	}
	h.deployed = h.source
	return reconcile.Result{RequeueAfter: sooner(h.pause, h.interval())}, nil
}

// takeInventory lists the release's objects, where it is another one, and sweeps
// away what no revision has.
func (h *helmReleaseRun) takeInventory(ctx context.Context, last *release.Record) error {
	st := &h.hr.Status
	if latest := h.before.History.Latest(); st.Inventory != nil && latest != nil && latest.Version == last.Version {
		return nil
	}
	swept, err := h.release.Sweep(ctx, last)
	if len(swept) > 0 {
		h.event(h.object, "Normal", "Swept", fmt.Sprintf("deleted %s (and %d more), which an upgrade that came to no end had made", swept[0], len(swept)-1))
	}
	if err != nil {
		return err
	}
	refs, err := h.release.Inventory(ctx, last)
	if err != nil {
		return err
	}
	st.Inventory = &helmv2.ResourceInventory{Entries: []helmv2.ResourceRef{}}
	for _, ref := range refs {
		st.Inventory.Entries = append(st.Inventory.Entries, helmv2.ResourceRef{
			ID: strings.Join([]string{ref.Namespace, ref.Name, ref.Group, ref.Kind}, "_"), Version: ref.Version,
		})
	}
	return nil
}

// snapshotOf is the status' snapshot of a revision, and nil where it has none.
func (h *helmReleaseRun) snapshotOf(rec *release.Record) *helmv2.Snapshot {
	for _, s := range h.hr.Status.History {
		if s.Targets(rec.Name, rec.Namespace, rec.Version) {
			return s
		}
	}
	return nil
}

// observe takes a revision into the history.
func (h *helmReleaseRun) observe(rec *release.Record, action helmv2.ReleaseAction) *helmv2.Snapshot {
	st := &h.hr.Status
	s := h.snapshotOf(rec)
	if s == nil {
		s = &helmv2.Snapshot{}
		st.History = append(st.History, s)
	}
	m := rec.Chart.Metadata
	*s = helmv2.Snapshot{
		APIVersion: helmv2.CurrentSnapshotAPIVersion, Digest: release.Digest(rec),
		Name: rec.Name, Namespace: rec.Namespace, Version: rec.Version, Status: rec.Info.Status.String(),
		Action: s.Action, ChartName: m.Name, ChartVersion: m.Version, AppVersion: m.AppVersion,
		ConfigDigest:  release.ConfigDigest(rec.Config),
		FirstDeployed: metav1.NewTime(rec.Info.FirstDeployed), LastDeployed: metav1.NewTime(rec.Info.LastDeployed),
		TestHooks: s.TestHooks, OCIDigest: s.OCIDigest,
	}
	if action != "" {
		s.Action, s.TestHooks = action, nil
		// It is of another revision. Should we die before it is taken again, the
		// next process does that.
		st.Inventory = nil
	}
	if action == helmv2.ReleaseActionInstall || action == helmv2.ReleaseActionUpgrade {
		s.OCIDigest = h.chart.oci
	}
	for _, other := range st.History {
		if other.Version < rec.Version && other.Status == common.StatusDeployed.String() && rec.Info.Status == common.StatusDeployed {
			other.Status = common.StatusSuperseded.String()
		}
	}
	st.History.Truncate(h.hr.GetTest().IgnoreFailures)
	return h.snapshotOf(rec)
}

// recordName is Flux' name of a revision: "NAMESPACE/NAME.vN".
func recordName(rec *release.Record) string {
	if rec == nil {
		return ""
	}
	return fmt.Sprintf("%s/%s.v%d", rec.Namespace, rec.Name, rec.Version)
}
