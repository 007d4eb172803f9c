// Package syncwindow judges when an AppProject lets its Applications be
// synced: windows of time that allow or deny, by cron, as Argo CD 3.6 has them
// (docs/user-guide/sync_windows.md there). It is pure: the time is given.
package syncwindow

import (
	"fmt"
	"time"
	_ "time/tzdata" // a machine need not have a database of time zones

	"github.com/gobwas/glob"
	"github.com/robfig/cron/v3"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

// The kinds of a window.
const (
	Allow = "allow"
	Deny  = "deny"
)

// Window is one window of a project, ready to be asked. At is its place in
// spec.syncWindows, which Argo CD's command line calls its ID.
type Window struct {
	argo.SyncWindow
	At       int
	schedule cron.Schedule
	length   time.Duration
}

// FieldError says what is wrong with a field of a window.
type FieldError struct {
	Field, Problem string
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Problem }

// parser reads five fields and no @descriptors, as Argo CD does.
const parser = cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow

// maxSchedule bounds a schedule; the longest list of every field is shorter.
const maxSchedule = 1024

// Parse reads a window. A pattern that is none is refused: a window that
// denies would hold nobody. A time zone that is not known is refused, where Argo CD
// takes UTC for it: a window that opens at another time than it says is none.
// The error is a *FieldError.
func Parse(w argo.SyncWindow) (Window, error) {
	if w.Kind != Allow && w.Kind != Deny {
		return Window{}, &FieldError{"kind", fmt.Sprintf("%q is neither allow nor deny", w.Kind)}
	}
	zone, err := time.LoadLocation(w.TimeZone)
	if err != nil || w.TimeZone == "Local" {
		return Window{}, &FieldError{"timeZone", fmt.Sprintf("%q is not known", w.TimeZone)}
	}
	if len(w.Schedule) > maxSchedule {
		return Window{}, &FieldError{"schedule", "is too long"}
	}
	schedule, err := cron.NewParser(parser).Parse(w.Schedule)
	if err != nil {
		return Window{}, &FieldError{"schedule", err.Error()}
	}
	spec, ok := schedule.(*cron.SpecSchedule)
	if !ok {
		return Window{}, &FieldError{"schedule", "is no cron schedule"}
	}
	if spec.Location == time.Local { // unless the schedule itself has CRON_TZ=
		spec.Location = zone
	}
	length, err := time.ParseDuration(w.Duration)
	if err != nil || length <= 0 {
		return Window{}, &FieldError{"duration", fmt.Sprintf("%q is no duration such as 1h30m", w.Duration)}
	}
	for _, by := range []struct {
		field    string
		patterns []string
	}{{"applications", w.Applications}, {"namespaces", w.Namespaces}, {"clusters", w.Clusters}} {
		for i, p := range by.patterns {
			if _, err := glob.Compile(p); err != nil {
				return Window{}, &FieldError{fmt.Sprintf("%s[%d]", by.field, i), fmt.Sprintf("%q is no pattern: %v", p, err)}
			}
		}
	}
	return Window{SyncWindow: w, schedule: spec, length: length}, nil
}

// String is "deny:0 2 * * *:1h", as Argo CD writes it.
func (w Window) String() string { return w.Kind + ":" + w.Schedule + ":" + w.Duration }

// Active says whether the window is open.
func (w Window) Active(now time.Time) bool { return !w.began(now).IsZero() }

// began is the last time at which the window began, or zero where it is not
// open. A schedule only tells what comes after a time, so we look back further
// and further, up to the window's length.
func (w Window) began(now time.Time) time.Time {
	for back := time.Minute; ; back *= 2 {
		back = min(back, w.length)
		start := w.schedule.Next(now.Add(-back))
		if start.IsZero() || start.After(now) {
			if back == w.length {
				return time.Time{}
			}
			continue
		}
		for next := w.schedule.Next(start); !next.IsZero() && !next.After(now); next = w.schedule.Next(next) {
			start = next
		}
		return start
	}
}

// changes is when the window may be other than now: it opens, or its last
// beginning is over. Zero is never.
func (w Window) changes(now time.Time) time.Time {
	if start := w.began(now); !start.IsZero() {
		return start.Add(w.length)
	}
	return w.schedule.Next(now)
}

// Holds says whether the window is one of the Application: by its name, by the
// namespace or by the cluster of its destination; by all that are given with
// andOperator, and otherwise by one of them.
func (w Window) Holds(app *argo.Application) bool {
	dest := app.Spec.Destination
	given, matched := 0, 0
	for _, by := range []struct{ patterns, values []string }{
		{w.Applications, []string{app.Name}},
		{w.Namespaces, []string{dest.Namespace}},
		{w.Clusters, []string{dest.Server, dest.Name}},
	} {
		if len(by.patterns) == 0 {
			continue
		}
		given++
		if matchAny(by.patterns, by.values) {
			matched++
		}
	}
	if w.UseAndOperator {
		return given > 0 && matched == given
	}
	return matched > 0
}

func matchAny(patterns, values []string) bool {
	for _, p := range patterns {
		g, err := glob.Compile(p)
		if err != nil {
			continue // Parse has refused it
		}
		for i, v := range values {
			// What is not given as the second name of a thing is not asked.
			if (v != "" || i == 0 && len(values) == 1) && g.Match(v) {
				return true
			}
		}
	}
	return false
}
