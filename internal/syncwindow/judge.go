package syncwindow

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

// Windows are those that hold one Application. None permit everything.
type Windows []Window

// ParseAll reads a project's windows. The error joins one for each window that
// cannot be read; they say its place.
func ParseAll(list []argo.SyncWindow) (Windows, error) {
	var all Windows
	var wrong []error
	for i, s := range list {
		w, err := Parse(s)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("spec.syncWindows[%d].%w", i, err))
			continue
		}
		w.At = i
		all = append(all, w)
	}
	return all, errors.Join(wrong...)
}

// Of are the windows that hold the Application.
func (ws Windows) Of(app *argo.Application) Windows {
	return slices.DeleteFunc(slices.Clone(ws), func(w Window) bool { return !w.Holds(app) })
}

// String names the windows, with commas between.
func (ws Windows) String() string {
	names := make([]string, len(ws))
	for i, w := range ws {
		names[i] = w.String()
	}
	return strings.Join(names, ",")
}

// Operation is what is to be done.
type Operation struct {
	// Manual: somebody asked for it.
	Manual bool
	// Started is when it began; zero if it has not.
	Started time.Time
}

// Verdict says whether an operation may go on.
type Verdict struct {
	Permitted bool
	// Because are the windows that forbid it: those that deny and are open, or
	// those that allow and are not.
	Because Windows
	// Until is when it will be permitted; zero where that is not in sight.
	Until time.Time
}

// Judge says whether the operation may begin, or go on, now.
//
//   - An open window that denies forbids it, unless manualSync of all of those
//     lets what is asked for by hand through.
//   - Where there are windows that allow, one has to be open; likewise.
//   - What was permitted when it began goes on with syncOverrun of all windows
//     that forbid it. Otherwise it stops where it next comes to wait.
func (ws Windows) Judge(now time.Time, op Operation) Verdict {
	because := ws.forbidding(now, op.Manual)
	if len(because) == 0 {
		return Verdict{Permitted: true}
	}
	overrun := !slices.ContainsFunc(because, func(w Window) bool { return !w.SyncOverrun })
	if overrun && !op.Started.IsZero() && len(ws.forbidding(op.Started, op.Manual)) == 0 {
		return Verdict{Permitted: true}
	}
	return Verdict{Because: because, Until: ws.next(now, op.Manual)}
}

// forbidding are the windows that forbid a sync; none is a permission.
func (ws Windows) forbidding(now time.Time, manual bool) Windows {
	var denies, closed Windows
	open := false
	for _, w := range ws {
		switch active := w.Active(now); {
		case w.Kind == Deny && active:
			denies = append(denies, w)
		case w.Kind == Allow && active:
			open = true
		case w.Kind == Allow:
			closed = append(closed, w)
		}
	}
	because := denies
	if len(denies) == 0 && !open {
		because = closed
	}
	if manual && !slices.ContainsFunc(because, func(w Window) bool { return !w.ManualSync }) {
		return nil
	}
	return because
}

// steps bounds how many changes of windows are looked at for the next
// permission: windows can be so that there is none.
const steps = 400

// next is when a sync is permitted after now, or zero.
func (ws Windows) next(now time.Time, manual bool) time.Time {
	for range steps {
		var soonest time.Time
		for _, w := range ws {
			if t := w.changes(now); !t.IsZero() && (soonest.IsZero() || t.Before(soonest)) {
				soonest = t
			}
		}
		if soonest.IsZero() || len(ws.forbidding(soonest, manual)) == 0 {
			return soonest
		}
		now = soonest
	}
	return time.Time{}
}
