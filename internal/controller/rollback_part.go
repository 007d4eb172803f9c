package controller

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/render"
)

// part is what one commit restores: a branch of a repository, however many
// sources read it. A chart is one too, which none can restore.
type part struct {
	sources []int
	name    string
	chart   bool
	// repository is the embedded one, where it is.
	repository core.Name
	embedded   bool
	// was and head are the tree at the good revision and now.
	was, head core.Snapshot

	// differs says that head does not have what was read of was.
	differs bool
	changes map[string]change
	// why is why it cannot be committed to, or "".
	why string
	// commit is the one that was made.
	commit string
}

// good is the good revision.
func (p *part) good() string { return p.was.Revision.Commit }

// branch is the short name of the branch that is followed, or "".
func (p *part) branch() string {
	branch, ok := strings.CutPrefix(p.head.Revision.Ref, "refs/heads/")
	if !ok {
		return ""
	}
	return branch
}

func (p *part) fileChanges() []FileChange {
	out := make([]FileChange, 0, len(p.changes))
	for _, path := range sortedKeys(p.changes) {
		c := p.changes[path]
		out = append(out, FileChange{Path: path, Entry: c.entry, Remove: c.from == nil})
	}
	return out
}

// reading is what the delivery reads and renders at some revisions.
type reading struct {
	snaps []core.Snapshot
	// inputs are what was read of each source; its digest is of the objects.
	inputs [][]render.Input
	digest string
	// repeatable says that rendering the same again gives the same.
	repeatable bool
}

// read reads the delivery at the good revisions.
func (r *rollback) read(ctx context.Context) error {
	fields := r.view.changedFields(r.good)
	changed := func(err error) error {
		if len(fields) == 0 {
			return err
		}
		return &SourcesChangedError{Owner: r.req.Owner, Fields: fields, Err: err}
	}
	if slices.Contains(r.good.revisions, "") {
		return &NoSuchRevisionError{Owner: r.req.Owner, To: r.req.To}
	}
	snaps, err := r.resolve(ctx, r.view.delivery, r.good.revisions, false)
	if err != nil {
		return changed(err)
	}
	if r.was, err = r.readTrees(ctx, snaps); err != nil {
		return changed(fmt.Errorf("render %s: %w", pinnedTo(joinRevisions(r.good.revisions)), err))
	}
	// They may have been given in short.
	full := make([]string, len(snaps))
	for i := range snaps {
		full[i] = snaps[i].Revision.Commit
	}
	r.good.revisions = full
	return nil
}

// readTrees renders the sources as they are in snaps.
func (r *rollback) readTrees(ctx context.Context, snaps []core.Snapshot) (*reading, error) {
	d := r.view.delivery
	out := &reading{snaps: snaps, inputs: make([][]render.Input, len(snaps)), repeatable: true}
	refs, named := map[string]core.Tree{}, map[string]int{}
	for i, s := range d.sources {
		if s.name != "" {
			refs[s.name], named[s.name] = snaps[i].Tree, i
		}
	}
	var objects []any
	for i, s := range d.sources {
		if s.render == nil {
			continue
		}
		req := *s.render
		req.Tree, req.Refs = snaps[i].Tree, refs
		res, err := r.stages.Renderer.Render(ctx, req)
		if err != nil {
			return nil, err
		}
		for _, in := range res.Inputs {
			at := i
			if in.Source != "" {
				at = named[in.Source]
			}
			out.inputs[at] = append(out.inputs[at], in)
		}
		objects = append(objects, res.Objects)
		out.repeatable = out.repeatable && res.Uncacheable == ""
	}
	out.digest = digest(objects)
	return out, nil
}

// plan finds the parts, and what there is to do about each.
func (r *rollback) plan(ctx context.Context) error {
	for i, s := range r.view.delivery.sources {
		p := &part{sources: []int{i}, name: describeSource(s.from.URL, s.from.Chart), chart: s.from.Chart != "", was: r.was.snaps[i]}
		if !p.chart {
			p.repository, p.embedded = r.stages.Sources.Embedded(s.from.URL)
		}
		var err error
		p.head, err = r.resolveSource(ctx, s, "", false)
		if err != nil && ctx.Err() != nil {
			return err
		}
		if err != nil {
			p.why = err.Error()
		}
		if same := r.same(p); same != nil {
			same.sources = append(same.sources, i)
			continue
		}
		r.parts = append(r.parts, p)
	}
	for _, p := range r.parts {
		if err := r.compare(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// same is the part that is of the same branch and good revision.
func (r *rollback) same(p *part) *part {
	for _, other := range r.parts {
		if !p.chart && !other.chart && p.why == "" && other.why == "" && p.name == other.name &&
			p.head.Revision == other.head.Revision && p.was.Revision.Commit == other.was.Revision.Commit {
			return other
		}
	}
	return nil
}

// compare finds what there is to restore in the part as it stands now, and
// why it cannot be committed.
func (r *rollback) compare(ctx context.Context, p *part) error {
	source := r.view.delivery.sources[p.sources[0]]
	head, err := r.resolveSource(ctx, source, "", false)
	switch {
	case err != nil && ctx.Err() != nil:
		return err
	case err != nil: // the branch, the repository or the chart's version is gone
		p.differs, p.changes, p.why = true, nil, err.Error()
		return nil
	}
	p.head, p.why = head, ""
	if p.chart {
		p.differs = p.head.Revision.Commit != p.good()
		p.why = "a chart of a registry cannot be changed by a commit"
		return nil
	}
	if p.changes, err = r.restore(ctx, p); err != nil {
		return err
	}
	p.differs = len(p.changes) > 0
	if p.differs {
		p.why, err = r.cannotCommit(ctx, p)
	}
	return err
}

// cannotCommit is why Git cannot be written, or "".
func (r *rollback) cannotCommit(ctx context.Context, p *part) (string, error) {
	switch {
	case r.view.signed:
		return "only signed commits are brought out, and one of ours is not signed", nil
	case !p.embedded:
		return p.name + " is not a repository of this server", nil
	case r.stages.Commits == nil || r.stages.Access == nil:
		return "this server does not write to Git", nil
	case p.branch() == "":
		return fmt.Sprintf("%s is followed at %s, which is no branch", p.name, p.head.Revision), nil
	}
	err := r.stages.Access.Authorize(ctx, r.req.User, core.Action{
		Verb: "update", Group: core.Group, Resource: core.ResourceRepositories, Namespace: p.repository.Namespace, Name: p.repository.Name,
	})
	var forbidden *core.ForbiddenError
	if errors.As(err, &forbidden) {
		return err.Error(), nil
	}
	return "", err
}

// report says what was done about the part, or what is to be done.
func (p *part) report() RollbackPart {
	did := RollbackPart{Source: p.name, Revision: p.good(), Branch: p.branch(), Commit: p.commit, Pinned: p.why != ""}
	for _, c := range p.fileChanges() {
		did.Changed = append(did.Changed, c.Path)
	}
	if did.Pinned {
		did.ToDo = fmt.Sprintf("%s, so it is pinned to %s. %s", p.why, short7(p.good()), p.advice())
	}
	return did
}

// advice is what somebody has to do about the part in Git.
func (p *part) advice() string {
	switch {
	case p.chart:
		version := "its good version"
		if v := p.chartVersion(); v != "" {
			version = "version " + v
		}
		return fmt.Sprintf("Have targetRevision of %s name %s (%s), or publish what is good as a newer version.", p.name, version, short7(p.good()))
	case p.branch() == "" && p.head.Revision.Ref != "":
		return fmt.Sprintf("Have targetRevision of %s name %s.", p.name, short7(p.good()))
	case p.branch() == "":
		return fmt.Sprintf("Have %s lead to what is good again, or its targetRevision name %s.", p.name, short7(p.good()))
	}
	return fmt.Sprintf("In %s, on branch %s: %s.", p.name, p.branch(), p.gitCommands())
}

// chartVersion is the good chart's, or "".
func (p *part) chartVersion() string {
	data, err := p.was.Tree.Read(context.Background(), "Chart.yaml") // in memory
	var chart struct {
		Version string `json:"version"`
	}
	if err != nil || yaml.Unmarshal(data, &chart) != nil || !plainWord(chart.Version) {
		return ""
	}
	return chart.Version
}

// gitCommands are what restores the part in a work tree; names that a shell
// or a terminal could take for something else are not written out.
func (p *part) gitCommands() string {
	const most = 20
	var restore, remove []string
	for _, c := range p.fileChanges() {
		if !plainWord(c.Path) || len(p.changes) > most {
			return fmt.Sprintf("bring back %d paths as they were at %s, commit and push", len(p.changes), short7(p.good()))
		}
		if c.Remove {
			remove = append(remove, c.Path)
		} else {
			restore = append(restore, c.Path)
		}
	}
	var commands []string
	if len(restore) > 0 {
		commands = append(commands, "git checkout "+p.good()+" -- "+strings.Join(restore, " "))
	}
	if len(remove) > 0 {
		commands = append(commands, "git rm -r -- "+strings.Join(remove, " "))
	}
	return strings.Join(commands, " && ") + ", commit and push"
}

// plainWord holds for what needs no quotes anywhere.
func plainWord(s string) bool {
	return s != "" && fs.ValidPath(s) && !strings.ContainsFunc(s, func(c rune) bool {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		return !letter && !strings.ContainsRune("/._-+", c)
	})
}

// specChanged says what a rollback does not bring back, or "".
func (r *rollback) specChanged() string {
	fields := r.view.changedFields(r.good)
	if len(fields) == 0 {
		return ""
	}
	return fmt.Sprintf("%s changed since that entry of the history, and a rollback does not change it: put it back where that belongs to it.",
		strings.Join(fields, ", "))
}
