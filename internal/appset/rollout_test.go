package appset_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/appset"
)

// stage plays a RollingSync: it is the cluster, in which the test says what
// becomes of Applications.
type stage struct {
	t       *testing.T
	set     *argo.ApplicationSet
	apps    map[string]*argo.Application
	order   []string
	now     time.Time
	current map[string]bool
	synced  []string
	asked   map[string]string // the token of the operation that was asked for
}

func newStage(t *testing.T, steps string, apps ...string) *stage {
	s := &stage{t: t, set: &argo.ApplicationSet{}, apps: map[string]*argo.Application{}, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), current: map[string]bool{}, asked: map[string]string{}}
	if err := yaml.UnmarshalStrict([]byte("strategy: {type: RollingSync, rollingSync: {steps: "+steps+"}}"), &s.set.Spec); err != nil {
		t.Fatal(err)
	}
	for _, app := range apps {
		name, env, _ := strings.Cut(app, ":")
		a := &argo.Application{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"env": env}}}
		a.Spec.Source = &argo.ApplicationSource{RepoURL: "https://example.com/repo.git", Path: name}
		s.apps[name], s.order = a, append(s.order, name)
		s.is(name, argo.SyncOutOfSync, "Missing", "one")
	}
	return s
}

// is says how an Application is, at a revision.
func (s *stage) is(name string, sync argo.SyncStatusCode, health, revision string) {
	a := s.apps[name]
	a.Status.Sync = argo.SyncStatus{Status: sync, Revision: revision, ComparedTo: &argo.ComparedTo{Source: a.Spec.Source.DeepCopy()}}
	a.Status.Health.Status = health
}

// operates says what became of the operation that was asked for.
func (s *stage) operates(name string, phase argo.OperationPhase) {
	s.apps[name].Operation = nil
	op := argo.Operation{Info: []argo.Info{{Name: appset.InfoRollout, Value: s.asked[name]}}}
	if phase == argo.OperationRunning {
		s.apps[name].Operation = &op
	}
	s.apps[name].Status.OperationState = &argo.OperationState{Phase: phase, Operation: op, Message: "as it went"}
}

// well brings Applications through their syncs.
func (s *stage) well(revision string, names ...string) {
	for _, name := range names {
		s.operates(name, argo.OperationSucceeded)
		s.is(name, argo.SyncSynced, "Healthy", revision)
	}
}

// roll moves on until nothing moves, and says "NAME=STATE …, step N".
func (s *stage) roll() string {
	s.t.Helper()
	s.synced = nil
	for range 3 {
		s.now = s.now.Add(10 * time.Millisecond)
		var plan []appset.Change
		for _, name := range s.order {
			data, err := yaml.Marshal(s.apps[name])
			if err != nil {
				s.t.Fatal(err)
			}
			u := &unstructured.Unstructured{}
			if err := yaml.Unmarshal(data, &u.Object); err != nil {
				s.t.Fatal(err)
			}
			plan = append(plan, appset.Change{Action: appset.Keep, Name: name, Wanted: u, Live: u})
		}
		out := appset.Roll(s.set, plan, func(name string) bool { return s.current[name] }, s.now)
		s.set.Status.ApplicationStatus = out.Status
		for _, sync := range out.Sync {
			s.synced = append(s.synced, sync.Name)
			s.asked[sync.Name] = sync.Token
			s.operates(sync.Name, argo.OperationRunning)
		}
		if len(out.Sync) > 0 {
			continue
		}
		var states []string
		for _, a := range out.Status {
			states = append(states, a.Application+"="+a.Status)
		}
		return fmt.Sprintf("%s, step %d", strings.Join(states, " "), out.Step)
	}
	s.t.Fatal("it syncs again and again")
	return ""
}

func (s *stage) expect(want, synced string) {
	s.t.Helper()
	if got := s.roll(); got != want || strings.Join(s.synced, " ") != synced {
		s.t.Fatalf("%s, synced %v; want %s, synced %s", got, s.synced, want, synced)
	}
}

const twoSteps = `[{matchExpressions: [{key: env, operator: In, values: [dev]}]}, {matchExpressions: [{key: env, operator: NotIn, values: [dev, none]}], maxUpdate: 50%}]`

// TestRollout brings a first state and a change through two steps.
func TestRollout(t *testing.T) {
	s := newStage(t, twoSteps, "a:dev", "b:prod", "c:prod", "d:prod", "x:none")
	s.expect("a=Progressing b=Waiting c=Waiting d=Waiting x=Waiting, step 1", "a")
	s.expect("a=Progressing b=Waiting c=Waiting d=Waiting x=Waiting, step 1", "")
	s.operates("a", argo.OperationSucceeded)
	s.is("a", argo.SyncSynced, "Progressing", "one")
	s.expect("a=Progressing b=Waiting c=Waiting d=Waiting x=Waiting, step 1", "")
	s.well("one", "a")
	s.expect("a=Healthy b=Progressing c=Waiting d=Waiting x=Waiting, step 2", "b") // half of three is one
	s.well("one", "b")
	s.expect("a=Healthy b=Healthy c=Progressing d=Waiting x=Waiting, step 2", "c")
	s.well("one", "c")
	s.expect("a=Healthy b=Healthy c=Healthy d=Progressing x=Waiting, step 2", "d")
	s.well("one", "d")
	s.expect("a=Healthy b=Healthy c=Healthy d=Healthy x=Waiting, step 0", "")

	// A commit: a Application of the second step is looked at first.
	s.is("b", argo.SyncOutOfSync, "Healthy", "two")
	s.expect("a=Healthy b=Waiting c=Healthy d=Healthy x=Waiting, step 2", "")
	s.is("a", argo.SyncOutOfSync, "Healthy", "two")
	s.expect("a=Progressing b=Waiting c=Healthy d=Healthy x=Waiting, step 1", "a")
	s.operates("a", argo.OperationFailed)
	s.expect("a=Progressing b=Waiting c=Healthy d=Healthy x=Waiting, step 1", "")
	if m := s.set.Status.ApplicationStatus[0].Message; !strings.Contains(m, "as it went") {
		t.Errorf("message %q", m)
	}
	// The fix is another commit.
	s.is("a", argo.SyncOutOfSync, "Healthy", "three")
	s.expect("a=Progressing b=Waiting c=Healthy d=Healthy x=Waiting, step 1", "a")
	s.well("three", "a")
	s.is("b", argo.SyncOutOfSync, "Healthy", "three")
	s.expect("a=Healthy b=Progressing c=Healthy d=Healthy x=Waiting, step 2", "b")
	s.well("three", "b")
	s.expect("a=Healthy b=Healthy c=Healthy d=Healthy x=Waiting, step 0", "")

	// A commit that does not concern the first step is known not to.
	s.current["a"] = true
	s.is("d", argo.SyncOutOfSync, "Healthy", "four")
	s.expect("a=Healthy b=Healthy c=Healthy d=Progressing x=Waiting, step 2", "d")
}

// TestRolloutOfASpec has all specs changed at once: who was not compared with
// his own yet is waited for, though his status is well.
func TestRolloutOfASpec(t *testing.T) {
	s := newStage(t, twoSteps, "a:dev", "b:prod")
	s.well("one", "a", "b")
	s.expect("a=Healthy b=Healthy, step 0", "")
	for _, name := range s.order {
		s.apps[name].Spec.Source.TargetRevision = "v2"
	}
	s.expect("a=Waiting b=Waiting, step 1", "")
	s.is("b", argo.SyncOutOfSync, "Healthy", "two")
	s.expect("a=Waiting b=Waiting, step 1", "")
	s.is("a", argo.SyncOutOfSync, "Healthy", "two")
	s.expect("a=Progressing b=Waiting, step 1", "a")
}

// TestRolloutByHand has a step that nobody syncs but people, and a sync that
// was asked for and lost.
func TestRolloutByHand(t *testing.T) {
	s := newStage(t, `[{matchExpressions: [{key: env, operator: In, values: [qa]}], maxUpdate: 0}, {matchExpressions: [{key: env, operator: In, values: [prod]}], maxUpdate: 1}]`, "q:qa", "p:prod")
	s.expect("p=Waiting q=Waiting, step 1", "")
	s.operates("q", argo.OperationRunning)
	s.expect("p=Waiting q=Progressing, step 1", "")
	s.well("one", "q")
	s.expect("p=Progressing q=Healthy, step 2", "p")
	for i := range s.set.Status.ApplicationStatus {
		if a := &s.set.Status.ApplicationStatus[i]; a.Application == "p" {
			a.Status, a.LastTransitionTime = argo.RolloutPending, &metav1.Time{Time: s.now}
		}
	}
	s.apps["p"].Operation, s.apps["p"].Status.OperationState = nil, nil
	s.expect("p=Progressing q=Healthy, step 2", "p")
}
