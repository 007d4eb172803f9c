package controller

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/render"
)

// RollbackRequest asks for a delivery to go back to what it was.
type RollbackRequest struct {
	Owner core.Owner
	// To is an entry of the history by its ID, or a revision; empty is the entry
	// before the current one.
	To string
	// Reason is for people; it is in the commit's message, or in the pin.
	Reason string
	// User is who asks, and in whose name the commit is made.
	User core.User
}

// RollbackResult is what was done.
type RollbackResult struct {
	// Revision is the good one.
	Revision string `json:"revision"`
	// Commit is the one that was made. It is empty where nothing had to be
	// changed in Git, or where the delivery was pinned.
	Commit string `json:"commit,omitempty"`
	Branch string `json:"branch,omitempty"`
	// Changed are the paths that the commit restores or removes.
	Changed []string `json:"changed,omitempty"`
	// Pinned says that the delivery is held at the good revision, because Git
	// could not be written; ToDo is what is still to be done there.
	Pinned bool   `json:"pinned,omitempty"`
	ToDo   string `json:"toDo,omitempty"`
}

// NoSuchRevisionError says that a delivery cannot go back to what was asked.
type NoSuchRevisionError struct {
	Owner core.Owner
	To    string
}

func (e *NoSuchRevisionError) Error() string {
	if e.To == "" {
		return fmt.Sprintf("%s has nothing to go back to: its history has no earlier entry", e.Owner)
	}
	return fmt.Sprintf("%s has no entry %q in its history", e.Owner, e.To)
}

// Hint says where to look.
func (e *NoSuchRevisionError) Hint() string { return "see 'fairway app history " + e.Owner.Name + "'" }

// Rollback restores in Git, by one forward commit on the branch that the
// delivery follows, exactly the inputs that it read at the good revision: so
// that syncing automatically and rolling back want the same. The commit is
// made in the user's name, who must be permitted to push. Where he is not, or
// the repository is not ours, the delivery is pinned to the good revision
// instead, and the result says what is still to be done in Git.
//
// Errors: *NoSuchRevisionError, *MovedError after several tries, those of
// reading the source and of the API server.
func (e *Engine) Rollback(ctx context.Context, req RollbackRequest) (*RollbackResult, error) {
	v, err := e.view(ctx, req.Owner)
	if err != nil {
		return nil, err
	}
	good, err := v.goodRevision(req.To)
	if err != nil {
		return nil, err
	}
	result := &RollbackResult{Revision: good}
	repository, embedded := e.stages.Sources.Embedded(v.delivery.sources[0].from.URL)
	if why := e.cannotCommit(ctx, req, v, repository, embedded); why != "" {
		return e.pinInstead(ctx, req, v, result, why)
	}
	const tries = 5
	for range tries {
		err = e.commitBack(ctx, req, v, repository, result)
		var moved *MovedError
		if !errors.As(err, &moved) {
			break
		}
	}
	return result, err
}

// cannotCommit is why Git cannot be written, or "".
func (e *Engine) cannotCommit(ctx context.Context, req RollbackRequest, v *view, repository core.Name, embedded bool) string {
	switch {
	case len(v.delivery.sources) > 1:
		return "the delivery has several sources"
	case !embedded:
		return fmt.Sprintf("%s is not a repository of this server", v.delivery.sources[0].from.URL)
	case e.stages.Commits == nil || e.stages.Access == nil:
		return "this server does not write to Git"
	}
	err := e.stages.Access.Authorize(ctx, req.User, core.Action{
		Verb: "update", Group: core.Group, Resource: core.ResourceRepositories, Namespace: repository.Namespace, Name: repository.Name,
	})
	if err != nil {
		return err.Error()
	}
	return ""
}

// pinInstead holds the delivery at the good revision.
func (e *Engine) pinInstead(ctx context.Context, req RollbackRequest, v *view, result *RollbackResult, why string) (*RollbackResult, error) {
	reason := "rollback"
	if req.Reason != "" {
		reason += ": " + req.Reason
	}
	result.Pinned = true
	result.ToDo = fmt.Sprintf("%s, so the delivery is pinned to %s and new commits are not brought out. "+
		"Restore in Git what is good, and then remove the pin with 'fairway app unpin %s'.", why, short7(result.Revision), req.Owner.Name)
	return result, e.Pin(ctx, req.Owner, result.Revision, reason, req.User.Name)
}

func short7(commit string) string { return core.Revision{Commit: commit}.Short() }

// Pin holds a delivery at a revision; an empty one lets it go.
func (e *Engine) Pin(ctx context.Context, owner core.Owner, revision, reason, by string) error {
	v, err := e.view(ctx, owner)
	if err != nil {
		return err
	}
	u := v.object.DeepCopy()
	annotations := u.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	for key, value := range map[string]string{
		AnnotationPinnedRevision: revision, AnnotationPinnedReason: reason, AnnotationPinnedBy: by,
		AnnotationPinnedAt: time.Now().UTC().Format(time.RFC3339),
	} {
		annotations[key] = value
		if revision == "" || value == "" {
			delete(annotations, key)
		}
	}
	u.SetAnnotations(annotations)
	if err := e.client.Patch(ctx, u, client.MergeFrom(v.object)); err != nil {
		return fmt.Errorf("pin %s: %w", owner, err)
	}
	return nil
}

// commitBack makes the commit that restores what was read at the good
// revision. It is a *MovedError where somebody pushed meanwhile.
func (e *Engine) commitBack(ctx context.Context, req RollbackRequest, v *view, repository core.Name, result *RollbackResult) error {
	good, err := e.readAt(ctx, v, result.Revision)
	if err != nil {
		return err
	}
	head, err := e.readAt(ctx, v, "")
	if err != nil {
		return err
	}
	branch, ok := strings.CutPrefix(head.snapshot.Revision.Ref, "refs/heads/")
	if !ok {
		return fmt.Errorf("%s follows %q, which is no branch: set its target revision to %s instead", req.Owner, head.snapshot.Revision, result.Revision)
	}
	changes, err := restore(ctx, good, head)
	if err != nil {
		return err
	}
	result.Branch, result.Changed = branch, nil
	if len(changes) == 0 {
		return nil
	}
	for _, c := range changes {
		result.Changed = append(result.Changed, c.Path)
	}
	revision, err := e.stages.Commits.Commit(ctx, CommitRequest{
		Repository: repository, Ref: head.snapshot.Revision.Ref, Parent: head.snapshot.Revision.Commit,
		Changes: changes, Message: rollbackMessage(req, result.Revision), Author: req.User,
	})
	if err != nil {
		return err
	}
	result.Commit = revision.Commit
	return nil
}

func rollbackMessage(req RollbackRequest, good string) string {
	s := fmt.Sprintf("Roll %s back to %s\n", req.Owner.Name, short7(good))
	if req.Reason != "" {
		s += "\n" + req.Reason + "\n"
	}
	return s + fmt.Sprintf("\nRestores what %s read at %s.\n", req.Owner, good)
}

// reading is a source at one revision, and what a render read of it.
type reading struct {
	snapshot core.Snapshot
	inputs   []render.Input
}

// readAt renders the delivery's source at a revision, or where it stands now.
// What stands now may not render: that is why somebody rolls back.
func (e *Engine) readAt(ctx context.Context, v *view, revision string) (*reading, error) {
	var revisions []string
	if revision != "" {
		revisions = []string{revision}
	}
	snaps, err := e.resolve(ctx, v.delivery, revisions, false)
	if err != nil {
		return nil, err
	}
	req := *v.delivery.sources[0].render
	req.Tree, req.Source = snaps[0].Tree, v.delivery.sources[0].from.URL
	res, err := e.stages.Renderer.Render(ctx, req)
	if err != nil {
		if revision == "" {
			return &reading{snapshot: snaps[0]}, nil
		}
		return nil, fmt.Errorf("render %s: %w", short7(revision), err)
	}
	return &reading{snaps[0], res.Inputs}, nil
}

// restore returns the changes that make head read what good read: each file
// as it was, nothing where nothing was found, and no entry in a directory
// that was listed but those that were there.
func restore(ctx context.Context, good, head *reading) ([]FileChange, error) {
	set := map[string]FileChange{}
	for _, in := range good.inputs {
		if in.Source != "" {
			continue
		}
		var err error
		switch in.Kind {
		case render.InputFile:
			err = restoreFile(ctx, good.snapshot.Tree, head.snapshot.Tree, in, set)
		case render.InputMissing:
			err = removeEntry(ctx, head.snapshot.Tree, in.Path, set)
		case render.InputDirectory:
			err = restoreListing(ctx, good.snapshot.Tree, head.snapshot.Tree, in.Path, set)
		}
		if err != nil {
			return nil, fmt.Errorf("compare %s with the good revision: %w", in.Path, err)
		}
	}
	changes := make([]FileChange, 0, len(set))
	for _, p := range sortedKeys(set) {
		changes = append(changes, set[p])
	}
	return changes, nil
}

func restoreFile(ctx context.Context, good, head core.Tree, in render.Input, set map[string]FileChange) error {
	want, err := good.Entry(ctx, in.Path)
	if err != nil {
		return err
	}
	have, err := head.Entry(ctx, in.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil && have.Hash == want.Hash && have.Mode == want.Mode {
		return nil
	}
	set[in.Path] = FileChange{Path: in.Path, Entry: want}
	return nil
}

func removeEntry(ctx context.Context, head core.Tree, name string, set map[string]FileChange) error {
	_, err := head.Entry(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	set[name] = FileChange{Path: name, Remove: true}
	return nil
}

func restoreListing(ctx context.Context, good, head core.Tree, dir string, set map[string]FileChange) error {
	before, err := good.List(ctx, dir)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, entry := range before {
		there[entry.Name] = true
	}
	now, err := head.List(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the files in it come back one by one
	}
	if err != nil {
		return err
	}
	for _, entry := range now {
		if !there[entry.Name] {
			name := path.Join(dir, entry.Name)
			set[name] = FileChange{Path: name, Remove: true}
		}
	}
	return nil
}

// goodRevision finds the revision that is asked for in the history.
func (v *view) goodRevision(to string) (string, error) {
	if to == "" {
		if len(v.history) < 2 {
			return "", &NoSuchRevisionError{v.delivery.owner, to}
		}
		return v.history[len(v.history)-2].revision, nil
	}
	id, err := strconv.ParseInt(to, 10, 64)
	const shortest = 7 // of a commit; an ID is never that long
	for _, h := range v.history {
		if err == nil && len(to) < shortest && h.id == id || len(to) >= shortest && strings.HasPrefix(h.revision, to) {
			return h.revision, nil
		}
	}
	// A revision that was never synced here may be good all the same.
	if len(to) >= shortest {
		return to, nil
	}
	return "", &NoSuchRevisionError{v.delivery.owner, to}
}
