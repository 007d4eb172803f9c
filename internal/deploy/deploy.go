// Package deploy brings objects into a cluster: in order, by server-side
// apply, pruning what is no longer wanted, and says how healthy they are. It
// has the semantics of both dialects and no memory of its own: what was
// applied before is handed in (the inventory) and what is applied now is
// handed back.
package deploy

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/mark"
)

// FieldManager is the name under which we own fields.
const FieldManager = mark.FieldManager

// LabelManaged is on every object that we apply, so that only those need be
// watched. Its value is "true"; whose the object is, the dialect's own
// tracking annotation or labels say.
const LabelManaged = mark.LabelManaged

// Deployer compares, applies and deletes. Implementations are safe for
// concurrent use, but one owner must not be worked on twice at a time.
type Deployer interface {
	// Compare says for each object of the plan, and for each of the inventory
	// that the plan no longer has, whether the cluster has it so. It writes
	// nothing. Where one comparison fails the result says so for that object.
	Compare(ctx context.Context, p Plan) (*Comparison, error)
	// Apply makes the cluster so, as far as it can without waiting: where
	// something has to become healthy, done or gone first, the error is a
	// *WaitingError. The outcome is never nil and says what was done up to the
	// error, object by object; its inventory is what must be kept, whether or
	// not there was an error.
	Apply(ctx context.Context, p Plan) (*Outcome, error)
	// Delete removes what is in the inventory and is still the owner's, in
	// reverse order. It waits as Apply does.
	Delete(ctx context.Context, d Deletion) (*Outcome, error)
	// Stop deletes the hooks that the log has as begun and that are not done,
	// because their operation ends before they are.
	Stop(ctx context.Context, owner core.Owner, log *HookLog) error
}

// Plan is what is wanted of a cluster.
type Plan struct {
	Owner   core.Owner
	Objects []*unstructured.Unstructured
	// Inventory is what earlier plans of the owner applied.
	Inventory []core.ObjectRef
	Options   Options
	// Only restricts the plan to these objects (a selective sync, a heal);
	// empty is all. Nothing is pruned that is not named.
	Only []core.ObjectRef
	// Reads are objects that Options.As must be permitted to read: those whose
	// health is told to whoever sees the owner. Where one may not be read
	// nothing is applied.
	Reads []core.ObjectRef
	// Known, if set, is asked before the cluster is: an object that is known to
	// be just as it was applied, from the same manifest, costs no API call, and
	// its result is Unchanged with no Live. drift.Watcher.Known makes one.
	Known func(core.ObjectRef) (mark.Seen, bool)
	// Revision names what is applied, for the names of generated hooks.
	Revision string
	// Hooks is how a resumed apply knows which hooks have run.
	Hooks *HookLog
	// Resumed says that an apply of this very plan has come to wait before, so
	// that the plan is known to be sound. Objects are looked at when it is their
	// turn: what is known to be as it was applied costs no API call.
	Resumed bool
	// Progress, if set, is called from Apply's goroutine for each object done.
	Progress func(ObjectResult)
	// Superseded, if set, is asked at each safe point; true ends the apply
	// there with ErrSuperseded.
	Superseded func() bool
}

// Options are a delivery's, and can be overridden by an object's annotations.
// The zero value applies all objects, prunes nothing and waits for nothing.
type Options struct {
	// As is the Kubernetes user as whom the cluster is asked for all that a
	// delivery does: kube.ServiceAccount makes one. Empty is ourselves.
	As string
	// Namespace is for namespaced objects that name none.
	Namespace string
	// ForceNamespace overrides the namespace of every namespaced object.
	ForceNamespace bool
	// CreateNamespace makes Namespace if it is not there, with these metadata.
	CreateNamespace                       bool
	NamespaceLabels, NamespaceAnnotations map[string]string
	Prune, PruneLast, AllowEmpty          bool
	// These are for objects that say nothing of it themselves: Prune=false,
	// Delete=false, Prune=confirm and Delete=confirm.
	KeepOnPrune, KeepOnDelete   bool
	ConfirmPrune, ConfirmDelete bool
	PropagationPolicy           string // foreground (default), background, orphan
	// Validate false skips the API server's schema validation.
	SkipValidate                bool
	SkipDryRunOnMissingResource bool
	ApplyOutOfSyncOnly          bool
	Replace, Force              bool
	FailOnSharedResource        bool
	RespectIgnoreDifferences    bool
	IgnoreDifferences           []IgnoreDifference
	// WaitBetweenWaves holds the next wave until this one is healthy.
	WaitBetweenWaves bool
	// Confirmed says that somebody has approved the prunes and deletions that
	// wait for it (Prune=confirm, Delete=confirm).
	Confirmed bool
	// DryRun sends everything with dry-run and waits for nothing.
	DryRun bool
}

// IgnoreDifference names fields whose drift is not looked at.
type IgnoreDifference struct {
	Group, Kind, Namespace, Name string // "" or "*" match all
	JSONPointers                 []string
	JQPaths                      []string
	Managers                     []string
}

// ObjectResult is what became of one object.
type ObjectResult struct {
	Ref     core.ObjectRef
	Action  Action
	Health  core.Health
	Message string // of the health or of the failure
	Err     error  // set where Action is Failed
	// Hook and Wave are as the object's annotations have them.
	Hook string
	Wave int
	// Live, where the action left one, is what the cluster answered.
	Live *unstructured.Unstructured
	// Undone is what somebody had changed of the object since this very manifest
	// was applied the last time, where this apply has put it right.
	Undone []mark.Change
}

// Action is what was done to an object.
type Action string

// What Apply and Delete can have done.
const (
	Created      Action = "created"
	Configured   Action = "configured"
	Unchanged    Action = "unchanged"
	Pruned       Action = "pruned"
	PruneSkipped Action = "prune-skipped"
	Skipped      Action = "skipped"
	Failed       Action = "failed"
)

// Outcome is what an Apply or Delete did.
type Outcome struct {
	Results   []ObjectResult
	Inventory []core.ObjectRef
	Warnings  []Warning
	Health    core.Health
	Took      time.Duration
}

// Warning is what somebody should know, though nothing failed.
type Warning struct {
	Kind    WarningKind
	Message string
}

// WarningKind is the name that Argo CD has for a warning.
type WarningKind string

// The kinds of a Warning.
const (
	SharedResource   WarningKind = "SharedResourceWarning"
	RepeatedResource WarningKind = "RepeatedResourceWarning"
)

func (w Warning) String() string { return string(w.Kind) + ": " + w.Message }

// Difference is one object as it is wanted and as it is.
type Difference struct {
	Ref core.ObjectRef
	// State is InSync, Modified, MissingLive (wanted and not there), Extra
	// (there and no longer wanted), or Failed.
	State  State
	Health core.Health
	// Wanted is what the cluster would have after an apply (by dry-run), Live
	// what it has; both without what nobody wants to see (managed fields,
	// status), and with Secret values replaced by equal-length-free marks.
	Wanted, Live    *unstructured.Unstructured
	Message         string
	Err             error
	Hook            string
	RequiresPruning bool
}

// State is how an object stands to what is wanted.
type State string

// The states of a Difference.
const (
	InSync      State = "InSync"
	Modified    State = "Modified"
	MissingLive State = "Missing"
	Extra       State = "Extra"
	Uncompared  State = "Failed"
)

// Comparison is a plan beside the cluster.
type Comparison struct {
	Differences []Difference
	Warnings    []Warning
	Health      core.Health
	InSync      bool
}

// Deletion is a request to remove what a delivery owns.
type Deletion struct {
	Owner       core.Owner
	Inventory   []core.ObjectRef
	Propagation string // foreground (default), background, orphan
	// Hooks are the delivery's objects as last rendered, of which those that
	// are PreDelete and PostDelete hooks are run. A PreDelete hook that fails
	// ends the deletion before anything was deleted.
	Hooks []*unstructured.Unstructured
	// Log is how a deletion that is tried again knows which hooks have run.
	Log *HookLog
	// Options are the delivery's, of which those of a deletion are heeded:
	// As, Namespace (for hooks that name none), KeepOnDelete, ConfirmDelete and
	// Confirmed. Where a confirmation is missing nothing is deleted, no hook is
	// run, and the error is an *UnconfirmedError.
	Options Options
	// Wait until the objects of each wave are gone.
	Wait bool
	// Apart says of a live object that it is neither deleted nor waited for: it
	// goes by itself when the owner has gone. nil: no object does.
	Apart func(live *unstructured.Unstructured) bool
}
