package controller

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/problem"
)

// Rollbacks is a request to roll several deliveries back together.
type Rollbacks struct {
	Deliveries []RollbackDelivery `json:"deliveries"`
	To         string             `json:"to,omitempty"`
	Reason     string             `json:"reason,omitempty"`
}

// RollbackDelivery names an Application or a Kustomization.
type RollbackDelivery struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// RolledBack is what was done about one of them.
type RolledBack struct {
	RollbackDelivery
	RollbackResult
}

// RollbacksResult is what was done, in the order of the request.
type RollbacksResult struct {
	Items []RolledBack `json:"items"`
}

// maxRollbacks bounds how many are rolled back together.
const maxRollbacks = 500

func (e *Engine) serveRollbacks(r *http.Request, user core.User) (any, error) {
	const longest = 256 << 10
	body := json.NewDecoder(http.MaxBytesReader(nil, r.Body, longest))
	body.DisallowUnknownFields()
	var asked Rollbacks
	if err := body.Decode(&asked); err != nil {
		return nil, problem.New(http.StatusBadRequest, "the request is not understood: %s", err)
	}
	if n := len(asked.Deliveries); n == 0 || n > maxRollbacks {
		return nil, problem.New(http.StatusBadRequest, "want 1 to %d deliveries", maxRollbacks)
	}
	requests := make([]RollbackRequest, len(asked.Deliveries))
	for i, d := range asked.Deliveries {
		owner := core.Owner{Dialect: core.ArgoCD, Kind: d.Kind, Namespace: d.Namespace, Name: d.Name}
		switch d.Kind {
		case argo.ApplicationKind:
		case kustomizev1.KustomizationKind:
			owner.Dialect = core.Flux
		default:
			return nil, problem.New(http.StatusBadRequest, "kind %q is none that is rolled back", d.Kind)
		}
		if err := e.stages.Access.Authorize(r.Context(), user, owner.Action("update")); err != nil {
			return nil, err
		}
		requests[i] = RollbackRequest{Owner: owner, To: asked.To, Reason: asked.Reason, User: user}
	}
	results, err := e.RollbackAll(r.Context(), requests)
	if err != nil {
		return nil, err
	}
	out := &RollbacksResult{Items: make([]RolledBack, len(results))}
	for i, result := range results {
		out.Items[i] = RolledBack{asked.Deliveries[i], *result}
	}
	return out, nil
}

// RollbackAll rolls deliveries back together: what they want of one branch of
// one repository is one forward commit. All is found out before anything is
// done: where one cannot go back, or two want one path to be different things,
// nothing is done. The requests are of one user, for one reason.
//
// Where To is empty, each goes back by one entry of its history; these must be
// the same revisions, for otherwise nobody knows which of them is good.
//
// Errors: those of Rollback, with the delivery's name; *RollbackConflictError.
func (e *Engine) RollbackAll(ctx context.Context, requests []RollbackRequest) ([]*RollbackResult, error) {
	if len(requests) == 1 {
		result, err := e.Rollback(ctx, requests[0])
		return []*RollbackResult{result}, err
	}
	list := make([]*rollback, len(requests))
	for i, req := range requests {
		r, err := e.planRollback(ctx, req)
		if err != nil {
			return nil, fmt.Errorf("%s: %w; nothing was done", req.Owner, err)
		}
		list[i] = r
	}
	if err := oneRevision(list); err != nil {
		return nil, err
	}
	groups, err := grouped(list)
	if err != nil {
		return nil, err
	}
	for _, r := range list {
		if err := r.hold(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", r.req.Owner, err)
		}
	}
	// What has begun is ended, even if who asked has gone.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishing)
	defer cancel()
	for _, g := range groups {
		g.commit(ctx)
	}
	results := make([]*RollbackResult, len(list))
	var failed []error
	for i, r := range list {
		if err := r.settle(ctx); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", r.req.Owner, err))
		}
		results[i] = r.result()
	}
	return results, errors.Join(failed...)
}

// RollbackConflictError says that deliveries cannot go back together.
type RollbackConflictError struct {
	Problem, Advice string
}

func (e *RollbackConflictError) Error() string { return e.Problem + "; nothing was done" }

// Hint is for people.
func (e *RollbackConflictError) Hint() string { return e.Advice }

// HTTPStatus implements problem.Stated.
func (*RollbackConflictError) HTTPStatus() int { return http.StatusConflict }

// oneRevision is an error where deliveries of the same sources would go back to
// different revisions because nobody has said to which.
func oneRevision(list []*rollback) error {
	first := map[string]*rollback{}
	for _, r := range list {
		if r.req.To != "" {
			continue
		}
		for i, s := range r.view.delivery.sources {
			key := normalURL(s.from.URL) + " " + s.from.Chart
			other := first[key]
			if other == nil {
				first[key] = r
				continue
			}
			for j, o := range other.view.delivery.sources {
				if normalURL(o.from.URL)+" "+o.from.Chart == key && other.good.revisions[j] != r.good.revisions[i] {
					return &RollbackConflictError{
						fmt.Sprintf("%s would go back to %s, and %s to %s", other.req.Owner, short7(other.good.revisions[j]), r.req.Owner, short7(r.good.revisions[i])),
						"say to which revision all of them are to go: --to REVISION",
					}
				}
			}
		}
	}
	return nil
}

// group is what several rollbacks want of one branch.
type group struct {
	members []groupMember
}

type groupMember struct {
	r *rollback
	p *part
}

// grouped are the parts that are to be committed, by branch. The error is a
// *RollbackConflictError.
func grouped(list []*rollback) ([]*group, error) {
	by := map[string]*group{}
	var groups []*group
	for _, r := range list {
		for _, p := range r.parts {
			if !p.differs || p.why != "" {
				continue
			}
			key := p.repository.String() + " " + p.head.Revision.Ref
			g := by[key]
			if g == nil {
				g = &group{}
				by[key] = g
				groups = append(groups, g)
			}
			g.members = append(g.members, groupMember{r, p})
		}
	}
	for _, g := range groups {
		if _, err := g.changes(); err != nil {
			return nil, err
		}
	}
	return groups, nil
}

// changes are those of all members.
func (g *group) changes() (map[string]FileChange, error) {
	all, by := map[string]FileChange{}, map[string]*rollback{}
	for _, m := range g.members {
		for _, c := range m.p.fileChanges() {
			before, there := all[c.Path]
			if there && (before.Remove != c.Remove || before.Entry.Hash != c.Entry.Hash || before.Entry.Mode != c.Entry.Mode) {
				return nil, &RollbackConflictError{
					fmt.Sprintf("%s and %s want %s to be different things", by[c.Path].req.Owner, m.r.req.Owner, c.Path),
					"roll them back one after the other, or to one revision: --to REVISION",
				}
			}
			all[c.Path], by[c.Path] = c, m.r
		}
	}
	return all, overlapping(all, by)
}

// overlapping is an error where a path is to be something and one below it too.
func overlapping(all map[string]FileChange, by map[string]*rollback) error {
	for path := range all {
		for i := strings.LastIndex(path, "/"); i > 0; i = strings.LastIndex(path[:i], "/") {
			if _, there := all[path[:i]]; there {
				return &RollbackConflictError{
					fmt.Sprintf("%s and %s want %s to be different things", by[path].req.Owner, by[path[:i]].req.Owner, path[:i]),
					"roll them back one after the other",
				}
			}
		}
	}
	return nil
}

// commit makes the commit; who pushes meanwhile goes first. Where it cannot be
// made the parts say why, and their deliveries stay pinned.
func (g *group) commit(ctx context.Context) {
	if err := g.tryCommit(ctx); err != nil {
		for _, m := range g.members {
			if m.p.commit == "" && m.p.differs {
				m.p.why = cmp.Or(m.p.why, err.Error())
			}
		}
	}
}

func (g *group) tryCommit(ctx context.Context) error {
	const tries = 10
	for i := 0; ; i++ {
		all, err := g.changes()
		if err != nil || len(all) == 0 {
			return err
		}
		changes := make([]FileChange, 0, len(all))
		for _, path := range sortedKeys(all) {
			changes = append(changes, all[path])
		}
		first := g.members[0]
		revision, err := first.r.stages.Commits.Commit(ctx, CommitRequest{
			Repository: first.p.repository, Ref: first.p.head.Revision.Ref, Parent: first.p.head.Revision.Commit,
			Changes: changes, Message: g.message(), Author: first.r.req.User,
		})
		if err == nil {
			for _, m := range g.members {
				if m.p.differs {
					m.p.commit = revision.Commit
				}
			}
			return nil
		}
		var moved *MovedError
		if !errors.As(err, &moved) || i == tries {
			return err
		}
		for _, m := range g.members {
			if err := m.r.compare(ctx, m.p); err != nil {
				return err
			}
			if m.p.why != "" {
				return errors.New(m.p.why)
			}
		}
	}
}

// message is that of the commit.
func (g *group) message() string {
	if len(g.members) == 1 {
		return g.members[0].r.message(g.members[0].p)
	}
	var names, lines []string
	var to []string
	for _, m := range g.members {
		names = append(names, m.r.req.Owner.Name)
		to = append(to, short7(m.p.good()))
		lines = append(lines, fmt.Sprintf("Restores what %s read at %s.", m.r.req.Owner, m.p.good()))
	}
	slices.Sort(to)
	const most = 3
	who := strings.Join(names, ", ")
	if n := len(names) - most; n > 0 {
		who = fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), n)
	}
	s := fmt.Sprintf("Roll %s back to %s\n", who, strings.Join(slices.Compact(to), ", "))
	if reason := g.members[0].r.req.Reason; reason != "" {
		s += "\n" + reason + "\n"
	}
	return s + "\n" + strings.Join(lines, "\n") + "\n"
}
