package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/controller"
)

// deployedSource is one source of what was deployed.
type deployedSource struct {
	RepoURL  string `json:"repoURL"`
	Path     string `json:"path,omitempty"`
	Chart    string `json:"chart,omitempty"`
	Ref      string `json:"ref,omitempty"`
	Target   string `json:"targetRevision,omitempty"`
	Revision string `json:"revision"`
}

// deployedSources are the sources of the entry, each with its revision.
func deployedSources(h argo.RevisionHistory) []deployedSource {
	sources, revisions := h.Sources, h.Revisions
	if len(sources) == 0 {
		sources, revisions = []argo.ApplicationSource{h.Source}, []string{h.Revision}
	}
	var out []deployedSource
	for i, s := range sources {
		d := deployedSource{RepoURL: withoutPassword(s.RepoURL), Path: s.Path, Chart: s.Chart, Ref: s.Ref, Target: s.TargetRevision}
		if i < len(revisions) {
			d.Revision = revisions[i]
		}
		out = append(out, d)
	}
	return out
}

// String is the source for people.
func (d deployedSource) String() string {
	s := strings.TrimSuffix(d.RepoURL, "/")
	switch {
	case d.Chart != "":
		s += "/" + d.Chart
	case d.Path != "":
		s += " " + d.Path
	}
	if d.Target != "" {
		s += " (" + d.Target + ")"
	}
	return s
}

// print writes one line, or one a source.
func (r deployedRow) print(out io.Writer) {
	date := r.Date.Local().Format(time.DateTime)
	if len(r.Sources) == 0 {
		fmt.Fprintf(out, "%d\t%s\t%s\t%s\t\n", r.ID, date, r.Revision, r.By)
		return
	}
	id := fmt.Sprint(r.ID)
	for i, source := range r.Sources {
		if i > 0 {
			id, date, r.By = "", "", ""
		}
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\n", id, date, source.Revision, r.By, source)
	}
}

// printRollback says what was done, and what is left to do.
func printRollback(out io.Writer, name string, result controller.RollbackResult) {
	commits := 0
	for _, part := range result.Parts {
		if part.Commit == "" {
			continue
		}
		commits++
		fmt.Fprintf(out, "commit %s on %s of %s restores what %s read at %s:\n",
			shortCommit(part.Commit), part.Branch, part.Source, name, shortCommit(part.Revision))
		for _, path := range part.Changed {
			fmt.Fprintf(out, "  %s\n", printable(path))
		}
	}
	if commits == 0 && !result.Pinned {
		where := ""
		if result.Branch != "" {
			where = " in " + result.Branch
		}
		fmt.Fprintf(out, "%s reads%s what it read at %s: nothing to restore\n", name, where, shortCommits(result.Revision))
	}
	if result.Pinned {
		fmt.Fprintf(out, "%s is pinned\n", name)
	}
	if result.ToDo != "" {
		fmt.Fprintf(out, "still to do:\n  %s\n", strings.ReplaceAll(result.ToDo, "\n", "\n  "))
	}
}

// printable is a path without what a terminal would act on.
func printable(path string) string {
	if quoted := fmt.Sprintf("%q", path); quoted != `"`+path+`"` {
		return quoted
	}
	return path
}

// shortCommits shortens revisions with commas between.
func shortCommits(revisions string) string {
	list := strings.Split(revisions, ",")
	for i := range list {
		list[i] = shortCommit(list[i])
	}
	return strings.Join(list, ",")
}
