package appset

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

// Rolls says whether the set syncs its Applications itself, step by step.
func Rolls(set *argo.ApplicationSet) bool {
	s := set.Spec.Strategy
	return s != nil && s.Type == argo.StrategyRollingSync && s.RollingSync != nil
}

// Manual are the Applications without automated syncs, for a set that syncs
// them itself; as they are for one that does not.
func Manual(set *argo.ApplicationSet, apps []*unstructured.Unstructured) []*unstructured.Unstructured {
	if !Rolls(set) {
		return apps
	}
	out := make([]*unstructured.Unstructured, len(apps))
	for i, app := range apps {
		out[i] = app.DeepCopy()
		unstructured.RemoveNestedField(out[i].Object, "spec", "syncPolicy", "automated")
	}
	return out
}

// Rollout is how far a RollingSync is.
type Rollout struct {
	// Status is of each Application, by name.
	Status []argo.ApplicationSetApplicationStatus
	// Sync are the Applications to be synced now: those Pending whose operation
	// has not begun.
	Sync []RolloutSync
	// Step is the one that is in progress, from 1; 0 where all are done.
	Step int
}

// RolloutSync is an Application to be synced. Its operation has to have the
// Token in its info, by the name InfoRollout: that is how the operation is
// known, for times have seconds alone.
type RolloutSync struct{ Name, Token string }

// InfoRollout names the token in an operation's info.
const InfoRollout = "fairway-cd.io/rollout"

// Roll moves a RollingSync on: from the Applications as they are to be and
// are, and from the status so far.
// current says of an Application, by name, that its status is known to be of
// its sources as they are now, whatever revision it names.
func Roll(set *argo.ApplicationSet, plan []Change, current func(name string) bool, now time.Time) Rollout {
	r := &roller{set: set, now: now, current: current, before: map[string]argo.ApplicationSetApplicationStatus{}}
	for _, s := range set.Status.ApplicationStatus {
		r.before[s.Application] = s
	}
	for _, c := range plan {
		if c.Wanted != nil && c.Action != Delete {
			r.apps = append(r.apps, r.look(c))
		}
	}
	return r.roll()
}

type roller struct {
	set     *argo.ApplicationSet
	now     time.Time
	current func(string) bool
	before  map[string]argo.ApplicationSetApplicationStatus
	apps    []*rolled
}

// rolled is an Application of a RollingSync.
type rolled struct {
	argo.ApplicationSetApplicationStatus
	step int // from 0; -1 is in none
	// compared: its status is of the spec that is wanted. synced, outOfSync and
	// healthy are what that status says.
	compared, synced, outOfSync, healthy bool
	// busy: an operation is asked for, or runs; failed: the last one failed.
	busy, failed bool
	problem      string
	// token is that of the last operation, spec what it would be done for.
	token, spec string
	// at are the revisions by where they are from: a repository and what is
	// asked of it.
	at        map[string]string
	revisions []string
}

func (a *rolled) done() bool { return a.compared && a.synced && a.healthy && !a.busy }

// look reads an Application as it is.
func (r *roller) look(c Change) *rolled {
	a := &rolled{step: r.step(c.Wanted), at: map[string]string{}}
	a.ApplicationSetApplicationStatus = argo.ApplicationSetApplicationStatus{Application: c.Name, Status: argo.RolloutWaiting, Message: "No status yet: it is waited for"}
	if old, ok := r.before[c.Name]; ok {
		a.ApplicationSetApplicationStatus = old
	}
	a.Step = strconv.Itoa(a.step + 1)
	if a.step < 0 {
		a.Step = "-1"
	}
	if c.Live == nil {
		return a
	}
	var app argo.Application
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(c.Live.Object, &app); err != nil {
		return a // it is no Application yet
	}
	to := app.Status.Sync.ComparedTo
	a.compared = c.Action == Keep && to != nil && reflect.DeepEqual(to.Source, app.Spec.Source) &&
		slices.EqualFunc(to.Sources, app.Spec.Sources, func(x, y argo.ApplicationSource) bool { return reflect.DeepEqual(x, y) }) &&
		to.Destination == app.Spec.Destination
	a.synced, a.outOfSync = app.Status.Sync.Status == argo.SyncSynced, app.Status.Sync.Status == argo.SyncOutOfSync
	a.healthy = app.Status.Health.Status == "Healthy"
	a.busy = app.Operation != nil
	if op := app.Status.OperationState; op != nil {
		a.busy = a.busy || op.Phase == argo.OperationRunning || op.Phase == argo.OperationTerminating
		a.failed = op.Phase == argo.OperationFailed || op.Phase == argo.OperationError
		a.problem, a.token = op.Message, tokenIn(&op.Operation)
	}
	if data, err := json.Marshal(app.Spec); err == nil {
		a.spec = string(data)
	}
	a.note(&app)
	return a
}

func tokenIn(op *argo.Operation) string {
	for _, info := range op.Info {
		if info.Name == InfoRollout {
			return info.Value
		}
	}
	return ""
}

// wants is the token of the operation that a Pending Application waits for.
func (a *rolled) wants() string {
	h := sha256.New()
	fmt.Fprintln(h, a.LastTransitionTime.UTC(), a.TargetRevisions, a.spec)
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// begun says whether the operation of a Pending Application was begun.
func (a *rolled) begun() bool { return a.LastTransitionTime != nil && a.token == a.wants() }

// note keeps the revisions that the Application was compared with.
func (a *rolled) note(app *argo.Application) {
	sources, revisions := app.Spec.Sources, app.Status.Sync.Revisions
	if len(sources) == 0 && app.Spec.Source != nil {
		sources, revisions = []argo.ApplicationSource{*app.Spec.Source}, []string{app.Status.Sync.Revision}
	}
	a.revisions = slices.DeleteFunc(slices.Clone(revisions), func(s string) bool { return s == "" })
	for i, s := range sources {
		if i < len(revisions) {
			a.at[s.RepoURL+" "+s.Chart+" "+s.TargetRevision] = revisions[i]
		}
	}
}

// step is the first that selects the Application, or -1.
func (r *roller) step(app *unstructured.Unstructured) int {
	labels := app.GetLabels()
	return slices.IndexFunc(r.set.Spec.Strategy.RollingSync.Steps, func(s argo.ApplicationSetRolloutStep) bool {
		return !slices.ContainsFunc(s.MatchExpressions, func(e argo.ApplicationMatchExpression) bool {
			value, ok := labels[e.Key]
			in := ok && slices.Contains(e.Values, value)
			return in != (e.Operator == "In")
		})
	})
}

func (r *roller) roll() Rollout {
	for _, a := range r.apps {
		r.move(a)
	}
	var out Rollout
	for i := range r.set.Spec.Strategy.RollingSync.Steps {
		var of []*rolled
		for _, a := range r.apps {
			if a.step == i {
				of = append(of, a)
			}
		}
		if slices.ContainsFunc(of, func(a *rolled) bool { return a.Status != argo.RolloutHealthy }) {
			out.Step = i + 1
			r.begin(i, of)
			break
		}
	}
	for _, a := range r.apps {
		if a.Status == argo.RolloutPending && !a.busy && !a.begun() {
			out.Sync = append(out.Sync, RolloutSync{a.Application, a.wants()})
		}
		out.Status = append(out.Status, a.ApplicationSetApplicationStatus)
	}
	slices.SortFunc(out.Status, func(x, y argo.ApplicationSetApplicationStatus) int {
		return cmp.Compare(x.Application, y.Application)
	})
	return out
}

// move takes an Application to the state that it is in now.
func (r *roller) move(a *rolled) {
	moved := !slices.Equal(a.revisions, a.TargetRevisions) || !a.compared
	switch {
	case a.done():
		r.enter(a, argo.RolloutHealthy, "Application resource became Healthy")
	case a.busy:
		r.enter(a, argo.RolloutProgressing, "Application is being synced")
	case a.Status == argo.RolloutPending && !a.begun():
		// It is asked for.
	case a.compared && a.synced:
		r.enter(a, argo.RolloutProgressing, "Application is synced, and is waited for to become Healthy")
	case a.Status == argo.RolloutPending || a.Status == argo.RolloutProgressing && !moved:
		// One attempt for what is wanted: the rest is for people, or for the
		// Application's own retries.
		message := "Application is waited for to be synced"
		if a.failed {
			message = "The sync has failed: " + a.problem
		}
		r.enter(a, argo.RolloutProgressing, message)
	case a.compared && !a.outOfSync:
		r.enter(a, argo.RolloutWaiting, "Application cannot be compared, so that nobody knows what a sync would do")
	default:
		r.enter(a, argo.RolloutWaiting, "Application has pending changes, and waits for its step")
	}
}

// enter notes a state, and the time where it is another one.
func (r *roller) enter(a *rolled, status, message string) {
	if a.Status != status || a.LastTransitionTime == nil {
		a.LastTransitionTime = &metav1.Time{Time: r.now.Truncate(time.Second)}
	}
	if a.Status != status || status == argo.RolloutHealthy {
		a.TargetRevisions = a.revisions
	}
	a.Status, a.Message = status, message
}

// begin makes as many Applications of a step Pending as may be synced at a
// time.
func (r *roller) begin(step int, of []*rolled) {
	free := limit(r.set.Spec.Strategy.RollingSync.Steps[step].MaxUpdate, len(of))
	for _, a := range of {
		if a.Status == argo.RolloutPending || a.Status == argo.RolloutProgressing {
			free--
		}
	}
	for _, a := range of {
		if free <= 0 {
			return
		}
		if a.Status != argo.RolloutWaiting || !a.compared || !a.outOfSync || a.busy {
			continue
		}
		if late := r.late(step, a); late != "" {
			a.Message = fmt.Sprintf("Application waits until %s was looked at, which is of an earlier step", late)
			continue
		}
		r.enter(a, argo.RolloutPending, fmt.Sprintf("Application moved to Pending: a sync is asked for in step %d", step+1))
		a.TargetRevisions = a.revisions
		free--
	}
}

// late is an Application of an earlier step that has the same source, but was
// not compared with the revision that a was, so that it may have to go first.
func (r *roller) late(step int, a *rolled) string {
	for _, earlier := range r.apps {
		if earlier.step < 0 || earlier.step >= step || r.current(earlier.Application) {
			continue
		}
		for where, revision := range a.at {
			if other, same := earlier.at[where]; same && other != revision {
				return earlier.Application
			}
		}
	}
	return ""
}

// limit is how many of n may be synced at a time: percentages are rounded
// down, but not to none.
func limit(most *intstr.IntOrString, n int) int {
	if most == nil {
		return n
	}
	of, err := intstr.GetScaledValueFromIntOrPercent(most, n, false)
	if err != nil {
		return 0
	}
	if most.Type == intstr.String && of == 0 && most.StrVal != "0%" {
		return 1
	}
	return of
}
