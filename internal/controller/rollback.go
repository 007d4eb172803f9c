package controller

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/problem"
)

// RollbackRequest asks for a delivery to go back to what it was.
type RollbackRequest struct {
	Owner core.Owner
	// To is an entry of the history by its ID, or a revision; empty is the entry
	// before the current one, or the last one where what Git has now cannot be
	// brought out.
	To string
	// Reason is for people; it is in the commit's message, or in the pin.
	Reason string
	// User is who asks, and in whose name the commits are made.
	User core.User
}

// RollbackResult is what was done.
type RollbackResult struct {
	// Revision is the good one; of several sources one for each, with commas
	// between.
	Revision string `json:"revision"`
	// Commit is the first one that was made, Branch where, and Changed what it
	// restores or removes. Commit is empty where nothing had to be changed in
	// Git, or nothing could be.
	Commit  string   `json:"commit,omitempty"`
	Branch  string   `json:"branch,omitempty"`
	Changed []string `json:"changed,omitempty"`
	// Parts are all that was not as it was: the repositories and charts.
	Parts []RollbackPart `json:"parts,omitempty"`
	// Pinned says that the delivery is held, all of it or some sources, because
	// Git could not be written; ToDo is what is still to be done there.
	Pinned bool   `json:"pinned,omitempty"`
	ToDo   string `json:"toDo,omitempty"`
}

// RollbackPart is what was done about one branch of a repository, or a chart.
type RollbackPart struct {
	// Source is the repository's URL, or the chart.
	Source   string   `json:"source"`
	Revision string   `json:"revision"`
	Branch   string   `json:"branch,omitempty"`
	Commit   string   `json:"commit,omitempty"`
	Changed  []string `json:"changed,omitempty"`
	// Pinned says that it could not be committed to, and ToDo what is to be done.
	Pinned bool   `json:"pinned,omitempty"`
	ToDo   string `json:"toDo,omitempty"`
}

// Rollback restores in Git, by one forward commit on each branch that the
// delivery follows, exactly the inputs that it read at the good revision: so
// that syncing automatically and rolling back want the same. The commits are
// made in the user's name, who must be permitted to push. What cannot be
// committed to (the user may not push there, the repository is not ours, it is
// a chart of a registry) is pinned to its good revision instead, and the
// result says what is still to be done.
//
// Where there is more than one thing to do, the whole delivery is pinned to
// the good revisions for as long as that takes, so that no half of it is ever
// brought out, and so that it stays good should the server die in between.
//
// Errors: *NoSuchRevisionError, *SourcesChangedError, *MovedError after several
// tries, those of reading the sources and of the API server.
func (e *Engine) Rollback(ctx context.Context, req RollbackRequest) (*RollbackResult, error) {
	r, err := e.planRollback(ctx, req)
	if err != nil {
		return nil, err
	}
	if err := r.act(ctx); err != nil {
		return nil, err
	}
	return r.result(), nil
}

// planRollback finds out all that there is to do, and does nothing.
func (e *Engine) planRollback(ctx context.Context, req RollbackRequest) (*rollback, error) {
	v, err := e.view(ctx, req.Owner)
	if err != nil {
		return nil, err
	}
	good, err := v.goodEntry(req.To)
	if err != nil {
		return nil, err
	}
	r := &rollback{Engine: e, req: req, view: v, good: good, pinned: v.delivery.pin}
	if err := r.read(ctx); err != nil {
		return nil, err
	}
	return r, r.plan(ctx)
}

// rollback is one that runs.
type rollback struct {
	*Engine
	req  RollbackRequest
	view *view
	good deployed
	// was is what the good revisions read and rendered.
	was *reading
	// parts are all that the delivery is made of.
	parts []*part
	// pinned is the pin that is there now; held says that we have set it for as
	// long as this takes.
	pinned pin
	held   bool
}

// finishing bounds the rest of a rollback whose first effect is done.
const finishing = 2 * time.Minute

// changes is how many parts differ, and how many of them can be committed.
func (r *rollback) changes() (changed, commits int) {
	for _, p := range r.parts {
		if !p.differs {
			continue
		}
		changed++
		if p.why == "" {
			commits++
		}
	}
	return changed, commits
}

// hold pins the delivery to what is good where it takes more than one step.
func (r *rollback) hold(ctx context.Context) error {
	changed, commits := r.changes()
	before := r.view.delivery.pin
	if (commits == 0 || changed < 2) && (before.Revision == "" || before.Revision == joinRevisions(r.good.revisions)) {
		return nil
	}
	if err := r.pin(ctx, r.good.revisions, "rollback is under way"); err != nil {
		return err
	}
	r.held = true
	return nil
}

// act commits and pins.
func (r *rollback) act(ctx context.Context) error {
	if err := r.hold(ctx); err != nil {
		return err
	}
	if r.held {
		// What has begun is ended, even if who asked has gone.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), finishing)
		defer cancel()
	}
	for _, p := range r.parts {
		if !p.differs || p.why != "" {
			continue
		}
		err := r.commit(ctx, p)
		if err != nil && !r.held {
			return err
		}
		if err != nil {
			p.why = err.Error()
		}
	}
	return r.settle(ctx)
}

// settle leaves the pin that is right after the commits.
func (r *rollback) settle(ctx context.Context) error {
	before := r.view.delivery.pin
	_, commits := r.changes()
	revisions := make([]string, len(r.good.revisions))
	for _, p := range r.parts {
		if !p.differs || p.why == "" {
			continue
		}
		for _, i := range p.sources {
			revisions[i] = r.good.revisions[i]
		}
	}
	stays := slices.ContainsFunc(revisions, func(s string) bool { return s != "" })
	switch {
	case before.Revision == joinRevisions(r.good.revisions):
		return nil // it is so already
	case before.Revision != "" || stays && commits == 0:
		return r.pin(ctx, r.good.revisions, "rollback")
	case stays:
		return r.pin(ctx, revisions, "rollback")
	case r.held:
		return r.pin(ctx, nil, "")
	}
	return nil
}

// pin pins to revisions, or lets go for none, unless somebody else has
// pinned meanwhile.
func (r *rollback) pin(ctx context.Context, revisions []string, why string) error {
	reason := why
	if r.req.Reason != "" {
		reason += ": " + r.req.Reason
	}
	next := newPin(joinRevisions(revisions), reason, r.req.User.Name)
	if len(revisions) == 0 {
		next = pin{}
	}
	stolen := false
	err := r.setPin(ctx, r.req.Owner, func(now pin) (pin, bool) {
		stolen = now != r.pinned
		return next, !stolen
	})
	if err == nil && stolen {
		err = &MovedError{Ref: "the pin of " + r.req.Owner.String()}
	}
	if err == nil {
		r.pinned = next
	}
	return err
}

// commit commits to the part's branch; who pushes meanwhile goes first.
func (r *rollback) commit(ctx context.Context, p *part) error {
	const tries = 10
	for i := 0; ; i++ {
		revision, err := r.stages.Commits.Commit(ctx, CommitRequest{
			Repository: p.repository, Ref: p.head.Revision.Ref, Parent: p.head.Revision.Commit,
			Changes: p.fileChanges(), Message: r.message(p), Author: r.req.User,
		})
		var moved *MovedError
		if err == nil {
			p.commit = revision.Commit
			return nil
		}
		if !errors.As(err, &moved) || i == tries {
			return err
		}
		if err := r.compare(ctx, p); err != nil {
			return err
		}
		if p.why != "" {
			return problem.New(http.StatusConflict, "%s", p.why)
		}
		if !p.differs { // somebody else has restored it
			return nil
		}
	}
}

func (r *rollback) message(p *part) string {
	s := fmt.Sprintf("Roll %s back to %s\n", r.req.Owner.Name, short7(p.good()))
	if r.req.Reason != "" {
		s += "\n" + r.req.Reason + "\n"
	}
	return s + fmt.Sprintf("\nRestores what %s read at %s.\n", r.req.Owner, p.good())
}

func short7(commit string) string { return core.Revision{Commit: commit}.Short() }

// result says what was done.
func (r *rollback) result() *RollbackResult {
	out := &RollbackResult{Revision: joinRevisions(r.good.revisions)}
	var todo []string
	for _, p := range r.parts {
		if !p.differs {
			continue
		}
		did := p.report()
		out.Parts = append(out.Parts, did)
		if did.ToDo != "" {
			todo = append(todo, did.ToDo)
		}
		if out.Commit == "" && did.Commit != "" {
			out.Commit, out.Branch, out.Changed = did.Commit, did.Branch, did.Changed
		}
	}
	if out.Branch == "" {
		out.Branch = r.parts[0].branch()
	}
	out.Pinned = r.pinned.Revision != ""
	if note := r.specChanged(); note != "" {
		todo = append(todo, note)
	}
	if out.Pinned {
		todo = append(todo, fmt.Sprintf("Until then it is %s, and newer commits are not brought out; afterwards let it go with 'fairway app unpin %s'.",
			pinnedTo(r.pinned.Revision), r.req.Owner.Name))
	}
	if r.view.manual && len(out.Parts) > 0 {
		todo = append(todo, fmt.Sprintf("It is not synced by itself: 'fairway app sync %s' brings out what is good.", r.req.Owner.Name))
	}
	out.ToDo = strings.Join(todo, "\n")
	return out
}

// pinnedTo says it in short.
func pinnedTo(revisions string) string {
	list := splitRevisions(revisions)
	for i, revision := range list {
		if list[i] = short7(revision); len(list) > 1 && revision != "" {
			list[i] += fmt.Sprintf(" (source %d)", i+1)
		}
	}
	return "pinned to " + strings.Join(slices.DeleteFunc(list, func(s string) bool { return s == "" }), ", ")
}
