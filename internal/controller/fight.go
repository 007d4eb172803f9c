package controller

import (
	"fmt"
	"slices"
	"strings"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
	"github.com/fairway-cd/fairway/internal/drift"
	"github.com/fairway-cd/fairway/internal/mark"
)

// When healing an object is a fight: somebody, or something, changes it back.
const (
	// fightRow: it was changed back so many times in a row before it was in sync
	// for as long as healForget.
	fightRow = 3
	// fightShown heals within fightMemory are a fight too, which is shown, and
	// fightSlowed of them are healed at the pace of the back-off from then on. A
	// person who tries things out comes to the first at most.
	fightShown, fightSlowed = 6, 30
	// fightMemory is how long an object must have been in sync for its fight to
	// be over. It is longer than the longest pause.
	fightMemory = 10 * time.Minute
)

// fight is the healing of one object.
type fight struct {
	healBackoff
	// recent are the times of the last heals, the oldest first; fightSlowed at
	// most.
	recent []time.Time
	// since is when it became a fight; zero while it is none.
	since time.Time
	// slowed says that no moment in sync speeds up healing again.
	slowed bool
	// by is who the watch says has changed it, deleted that it was gone, and
	// changes what the last heal has undone.
	by      string
	deleted bool
	changes []mark.Change
	// row is how often in a row it was put right, and did not stay so.
	row int
}

// drifted notes that the object is out of sync, and returns how long its heal
// has to wait still.
func (f *fight) drifted(s drift.ObjectState, now time.Time) time.Duration {
	if !f.inSync.IsZero() && now.Sub(f.inSync) >= fightMemory {
		*f = fight{}
	}
	f.by, f.deleted = s.By, s.Drift == drift.Deleted
	if f.slowed {
		f.inSync = time.Time{}
	}
	wait := f.healBackoff.drifted(now)
	if f.attempts == 0 {
		f.row = 0
	}
	return wait
}

// healed notes a heal, and says whether it has become a fight with that. One
// that has failed is tried again at the same pace, and is nobody's doing.
func (f *fight) healed(changes []mark.Change, failed bool, now time.Time) bool {
	f.healBackoff.healed(now)
	if failed {
		return false
	}
	f.changes = changes
	f.row++
	f.recent = append(f.recent, now)
	f.recent = f.recent[max(0, len(f.recent)-fightSlowed):]
	within := 0
	for _, at := range f.recent {
		if now.Sub(at) <= fightMemory {
			within++
		}
	}
	f.slowed = f.slowed || within >= fightSlowed
	if !f.since.IsZero() || f.row < fightRow && within < fightShown {
		return false
	}
	f.since = now
	return true
}

// over says that the object has been in sync for long enough.
func (f *fight) over(now time.Time) bool {
	return !f.inSync.IsZero() && now.Sub(f.inSync) >= fightMemory
}

// who says who changes the object, as far as that can be known.
func (f *fight) who() string {
	if f.deleted {
		return "it is deleted each time; Kubernetes does not keep who deletes, but for its audit log"
	}
	var parts []string
	for _, c := range f.changes {
		fields := fieldNames(c.Fields)
		switch c.Cause {
		case mark.ByManager:
			parts = append(parts, fmt.Sprintf("field manager %q writes %s", c.Manager, fields))
		case mark.ByAdmission:
			parts = append(parts, fmt.Sprintf("%s comes out otherwise than it was sent, and no field manager but ours names it: an admission webhook or policy changes it each time", fields))
		case mark.ByRemoval:
			parts = append(parts, fmt.Sprintf("%s is removed%s", fields, f.suspect()))
		}
	}
	if len(parts) == 0 && f.by != "" {
		return fmt.Sprintf("field manager %q writes it", f.by)
	}
	if len(parts) == 0 {
		return "no field manager says who"
	}
	return strings.Join(parts, "; ")
}

// suspect is who may have removed fields: who removes owns nothing.
func (f *fight) suspect() string {
	if f.by == "" {
		return ", by whom no field manager says"
	}
	return fmt.Sprintf(", perhaps by %q, who wrote to it last", f.by)
}

// fieldNames are pointers as kubectl names fields.
func fieldNames(pointers []string) string {
	const most = 4
	names := make([]string, 0, most+1)
	for i, p := range pointers {
		if i == most {
			names = append(names, fmt.Sprintf("%d more", len(pointers)-most))
			break
		}
		names = append(names, strings.NewReplacer("~1", "/", "~0", "~").Replace(strings.ReplaceAll(p, "/", ".")))
	}
	return strings.Join(names, ", ")
}

// fights are those of one delivery, by object. The zero value has none. They
// are forgotten with the process: then they are found out again.
type fights struct {
	by map[core.ObjectRef]*fight
	// count is told by how many there are more, or fewer.
	count func(int)
}

func (f *fights) of(ref core.ObjectRef) *fight {
	if f.by == nil {
		f.by = map[core.ObjectRef]*fight{}
	}
	if f.by[ref.Key()] == nil {
		f.by[ref.Key()] = &fight{}
	}
	return f.by[ref.Key()]
}

// due are those of the drifted objects that may be healed now, and how long it
// is until the next of the others may be. All others are in sync.
func (f *fights) due(lost []drift.ObjectState, now time.Time) (due []drift.ObjectState, next time.Duration) {
	drifted := map[core.ObjectRef]bool{}
	for _, s := range lost {
		drifted[s.Ref.Key()] = true
		switch wait := f.of(s.Ref).drifted(s, now); {
		case wait <= 0:
			due = append(due, s)
		case next == 0 || wait < next:
			next = wait
		}
	}
	for key, one := range f.by {
		if !drifted[key] {
			one.synced(now)
		}
	}
	return due, next
}

// healed notes that the objects were healed, with the results of that where they
// are known, and returns those for which it has become a fight.
func (f *fights) healed(lost []drift.ObjectState, results []deploy.ObjectResult, now time.Time) []core.ObjectRef {
	of := map[core.ObjectRef]deploy.ObjectResult{}
	for _, r := range results {
		of[r.Ref.Key()] = r
	}
	var begun []core.ObjectRef
	for _, s := range lost {
		r, known := of[s.Ref.Key()]
		failed := results != nil && (!known || r.Action == deploy.Failed || r.Action == deploy.Skipped)
		if f.of(s.Ref).healed(r.Undone, failed, now) {
			begun = append(begun, s.Ref)
			f.tell(1)
		}
	}
	return begun
}

// ended forgets what is over or of no concern any more, and returns the fights
// among that, and how long it is until the next may be over.
func (f *fights) ended(now time.Time) (over []core.ObjectRef, next time.Duration) {
	for key, one := range f.by {
		if !one.over(now) {
			if left := fightMemory - now.Sub(one.inSync); !one.since.IsZero() && !one.inSync.IsZero() && (next == 0 || left < next) {
				next = left
			}
			continue
		}
		delete(f.by, key)
		if !one.since.IsZero() {
			over = append(over, key)
			f.tell(-1)
		}
	}
	return over, next
}

// drop forgets all of them.
func (f *fights) drop() {
	f.tell(-len(f.shown()))
	f.by = nil
}

// shown are the fights, in order.
func (f *fights) shown() []core.ObjectRef {
	var refs []core.ObjectRef
	for key, one := range f.by {
		if !one.since.IsZero() {
			refs = append(refs, key)
		}
	}
	slices.SortFunc(refs, func(a, b core.ObjectRef) int { return strings.Compare(a.String(), b.String()) })
	return refs
}

// describe says of a fight what people have to know; "" is none.
func (f *fights) describe() string {
	var all []string
	for _, ref := range f.shown() {
		one := f.by[ref]
		all = append(all, fmt.Sprintf("%s is changed back each time that it is healed, since %s: %s. It is healed at most every %s.",
			ref, one.since.UTC().Format(time.RFC3339), one.who(), one.pause()))
	}
	return strings.Join(all, "\n")
}

// tellFights records events for the fights that have begun.
func (e *Engine) tellFights(obj *unstructured.Unstructured, f *fights, begun []core.ObjectRef) {
	for _, ref := range begun {
		e.event(obj, "Warning", reasonFighting, fmt.Sprintf("%s is changed back each time that it is healed: %s. It is healed less and less often, down to every %s; the other objects are not concerned.",
			ref, f.of(ref).who(), healMax))
	}
}

// tellPeace records events for the fights that are over.
func (e *Engine) tellPeace(obj *unstructured.Unstructured, over []core.ObjectRef) {
	for _, ref := range over {
		e.event(obj, "Normal", "FightOver", fmt.Sprintf("%s has been as it was applied for %s", ref, fightMemory))
	}
}

// lostOf are the objects that are not as they were applied.
func lostOf(states []drift.ObjectState) []drift.ObjectState {
	var lost []drift.ObjectState
	for _, s := range states {
		if s.Drift != drift.None && s.TakenBy == nil {
			lost = append(lost, s)
		}
	}
	return lost
}

// lookIn has the fights looked at after d, if that is not 0; what was to be
// looked at earlier stays.
func (m *memory) lookIn(d time.Duration) {
	if at := time.Now().Add(d); d > 0 && (m.look.IsZero() || at.Before(m.look)) {
		m.look = at
	}
}

// looks says whether it is time for that, and forgets about it if so.
func (m *memory) looks() bool {
	if m.look.IsZero() || time.Now().Before(m.look) {
		return false
	}
	m.look = time.Time{}
	return true
}

// sooner is d, or less where the fights are to be looked at before that.
func (m *memory) sooner(d time.Duration) time.Duration {
	if m.look.IsZero() {
		return d
	}
	return sooner(d, max(time.Millisecond, time.Until(m.look)))
}

// reasonFighting is also the type of the condition of Flux' kinds.
const reasonFighting = "Fighting"

// setFighting says in the conditions which objects are fought over, and returns
// how long it is until that may be over.
func (f *fluxObject) setFighting(conditions *[]metav1.Condition) time.Duration {
	over, next := f.fights.ended(f.now)
	f.tellPeace(f.object, over)
	message := f.fights.describe()
	if message == "" {
		apimeta.RemoveStatusCondition(conditions, reasonFighting)
		return next
	}
	apimeta.SetStatusCondition(conditions, metav1.Condition{
		Type: reasonFighting, Status: metav1.ConditionTrue, Reason: "ChangedBack", Message: message, ObservedGeneration: f.object.GetGeneration(),
	})
	return next
}

func (f *fights) tell(n int) {
	if f.count != nil && n != 0 {
		f.count(n)
	}
}
