package controller

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/core"
)

// NoSuchRevisionError says that a delivery cannot go back to what was asked.
type NoSuchRevisionError struct {
	Owner core.Owner
	To    string
	// Ambiguous says that more than one entry of the history is meant.
	Ambiguous bool
}

func (e *NoSuchRevisionError) Error() string {
	switch {
	case e.Ambiguous:
		return fmt.Sprintf("%s has several entries with %q in its history", e.Owner, e.To)
	case e.To == "":
		return fmt.Sprintf("%s has nothing to go back to: its history has no earlier entry", e.Owner)
	}
	return fmt.Sprintf("%s has no entry %q in its history", e.Owner, e.To)
}

// Hint says where to look.
func (e *NoSuchRevisionError) Hint() string {
	return "name the ID that 'fairway app history " + e.Owner.Name + "' shows"
}

// SourcesChangedError says that what a delivery read then cannot be read now,
// because its own sources were changed since. Err is why.
type SourcesChangedError struct {
	Owner  core.Owner
	Fields []string
	Err    error
}

func (e *SourcesChangedError) Error() string {
	return fmt.Sprintf("%s cannot go back: %s changed since that entry of its history, and with what it says now: %v",
		e.Owner, strings.Join(e.Fields, ", "), e.Err)
}

func (e *SourcesChangedError) Unwrap() error { return e.Err }

// Hint says what comes first.
func (e *SourcesChangedError) Hint() string {
	return "put " + strings.Join(e.Fields, ", ") + " back as the history has it, then roll back"
}

// shortestRevision is of a commit; an ID is never that long.
const shortestRevision = 7

// goodEntry finds what is asked for in the history. The error is a
// *NoSuchRevisionError.
func (v *view) goodEntry(to string) (deployed, error) {
	if to == "" {
		at := len(v.history) - 2
		if v.undeployed {
			at++
		}
		if at < 0 {
			return deployed{}, &NoSuchRevisionError{Owner: v.delivery.owner}
		}
		return v.history[at], v.fits(v.history[at])
	}
	var found []deployed
	id, err := strconv.ParseInt(to, 10, 64)
	for _, h := range slices.Backward(v.history) {
		if err == nil && len(to) < shortestRevision && h.id == id {
			return h, v.fits(h)
		}
		if h.matches(to) && !slices.ContainsFunc(found, func(f deployed) bool { return slices.Equal(f.revisions, h.revisions) }) {
			found = append(found, h)
		}
	}
	switch {
	case len(found) > 1:
		return deployed{}, &NoSuchRevisionError{Owner: v.delivery.owner, To: to, Ambiguous: true}
	case len(found) == 1:
		return found[0], v.fits(found[0])
	}
	// Revisions that were never synced here may be good all the same.
	list := splitRevisions(to)
	if len(list) == len(v.delivery.sources) && !slices.ContainsFunc(list, func(s string) bool { return len(s) < shortestRevision }) {
		return deployed{revisions: list}, nil
	}
	return deployed{}, &NoSuchRevisionError{Owner: v.delivery.owner, To: to}
}

// matches says whether to is the beginning of the entry's revision, of one of
// its revisions, or of all with commas between.
func (h deployed) matches(to string) bool {
	begins := func(revision, prefix string) bool {
		prefix = strings.TrimPrefix(prefix, "sha256:")
		return len(prefix) >= shortestRevision && strings.HasPrefix(strings.TrimPrefix(revision, "sha256:"), prefix)
	}
	list := splitRevisions(to)
	if len(list) == 1 {
		return slices.ContainsFunc(h.revisions, func(revision string) bool { return begins(revision, to) })
	}
	if len(list) != len(h.revisions) {
		return false
	}
	for i, revision := range h.revisions {
		if !begins(revision, list[i]) {
			return false
		}
	}
	return true
}

// fits says whether the entry is of as many sources as there are now, and of
// the same repositories. The error is a *SourcesChangedError.
func (v *view) fits(h deployed) error {
	now := v.delivery.sources
	if len(h.revisions) != len(now) {
		return &SourcesChangedError{Owner: v.delivery.owner, Fields: []string{"spec.sources"},
			Err: fmt.Errorf("there are %d sources, and were %d", len(now), len(h.revisions))}
	}
	for i, s := range h.sources {
		if from := now[i].from; normalURL(s.RepoURL) != normalURL(from.URL) || s.Chart != from.Chart {
			return &SourcesChangedError{Owner: v.delivery.owner, Fields: []string{sourceField(len(now), i)},
				Err: fmt.Errorf("it is %s, and was %s", describeSource(from.URL, from.Chart), describeSource(s.RepoURL, s.Chart))}
		}
	}
	return nil
}

// sourceField is where in the spec the source is.
func sourceField(n, i int) string {
	if n == 1 {
		return "spec.source"
	}
	return fmt.Sprintf("spec.sources[%d]", i)
}

// describeSource is the source for people.
func describeSource(url, chart string) string {
	url = withoutPassword(url)
	if chart != "" {
		return strings.TrimSuffix(url, "/") + "/" + chart
	}
	return url
}

// changedFields are the fields of the sources that say something else than
// they did then.
func (v *view) changedFields(h deployed) []string {
	var fields []string
	now := v.sources
	for i := range h.sources {
		if i >= len(now) {
			break
		}
		a, b := fieldsOf(h.sources[i]), fieldsOf(now[i])
		for _, name := range sortedKeys(union(a, b)) {
			if digest(a[name]) != digest(b[name]) {
				fields = append(fields, sourceField(len(now), i)+"."+name)
			}
		}
	}
	return fields
}

func union(a, b map[string]any) map[string]any {
	all := map[string]any{}
	for _, m := range []map[string]any{a, b} {
		for name := range m {
			all[name] = nil
		}
	}
	return all
}

// fieldsOf are the fields of a source that are set.
func fieldsOf(s argo.ApplicationSource) map[string]any {
	fields := map[string]any{}
	data, err := json.Marshal(s)
	if err == nil {
		err = json.Unmarshal(data, &fields)
	}
	if err != nil { // plain data always encode
		panic(fmt.Sprintf("controller: encode a source: %v", err))
	}
	return fields
}

// undeployed says that what Git has now is not in the history, because it does
// not render or its sync failed.
func undeployed(s *argo.ApplicationStatus) bool {
	for _, c := range s.Conditions {
		if c.Type == argo.ConditionComparisonError {
			return true
		}
	}
	op := s.OperationState
	if op == nil || op.SyncResult == nil || len(s.History) == 0 || op.Phase != argo.OperationFailed && op.Phase != argo.OperationError {
		return false
	}
	last := s.History[len(s.History)-1]
	return op.SyncResult.Revision != last.Revision || !slices.Equal(op.SyncResult.Revisions, last.Revisions)
}
