package syncwindow

import (
	"errors"
	"testing"
	"time"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

func at(t testing.TB, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func window(t testing.TB, w argo.SyncWindow) Window {
	t.Helper()
	if w.Kind == "" {
		w.Kind = Allow
	}
	parsed, err := Parse(w)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestActive(t *testing.T) {
	for _, c := range []struct {
		name               string
		window             argo.SyncWindow
		now                string
		active             bool
		changes, wantStart string
	}{
		{"before", argo.SyncWindow{Schedule: "0 22 * * *", Duration: "1h"}, "2026-03-01T21:59:59Z", false, "2026-03-01T22:00:00Z", ""},
		{"at its beginning", argo.SyncWindow{Schedule: "0 22 * * *", Duration: "1h"}, "2026-03-01T22:00:00Z", true, "2026-03-01T23:00:00Z", "2026-03-01T22:00:00Z"},
		{"within", argo.SyncWindow{Schedule: "0 22 * * *", Duration: "1h"}, "2026-03-01T22:59:59Z", true, "2026-03-01T23:00:00Z", "2026-03-01T22:00:00Z"},
		{"at its end", argo.SyncWindow{Schedule: "0 22 * * *", Duration: "1h"}, "2026-03-01T23:00:00Z", false, "2026-03-02T22:00:00Z", ""},
		{"over midnight", argo.SyncWindow{Schedule: "0 22 * * *", Duration: "8h"}, "2026-03-02T05:00:00Z", true, "2026-03-02T06:00:00Z", "2026-03-01T22:00:00Z"},
		{"overlaps itself", argo.SyncWindow{Schedule: "*/10 * * * *", Duration: "1h"}, "2026-03-02T05:07:00Z", true, "2026-03-02T06:00:00Z", "2026-03-02T05:00:00Z"},
		{"a long one of a day", argo.SyncWindow{Schedule: "0 0 * * 6", Duration: "48h"}, "2026-03-08T23:00:00Z", true, "2026-03-09T00:00:00Z", "2026-03-07T00:00:00Z"},
		// Amsterdam is UTC+1 in winter, UTC+2 in summer.
		{"in a zone, winter", argo.SyncWindow{Schedule: "0 22 * * *", Duration: "1h", TimeZone: "Europe/Amsterdam"}, "2026-01-10T21:30:00Z", true, "2026-01-10T22:00:00Z", "2026-01-10T21:00:00Z"},
		{"in a zone, summer", argo.SyncWindow{Schedule: "0 22 * * *", Duration: "1h", TimeZone: "Europe/Amsterdam"}, "2026-07-10T20:30:00Z", true, "2026-07-10T21:00:00Z", "2026-07-10T20:00:00Z"},
		{"never", argo.SyncWindow{Schedule: "0 0 31 2 *", Duration: "1h"}, "2026-07-10T20:30:00Z", false, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, now := window(t, c.window), at(t, c.now)
			if got := w.Active(now); got != c.active {
				t.Errorf("Active(%s) = %v", c.now, got)
			}
			var changes, start time.Time
			if c.changes != "" {
				changes = at(t, c.changes)
			}
			if c.wantStart != "" {
				start = at(t, c.wantStart)
			}
			if got := w.changes(now); !got.Equal(changes) {
				t.Errorf("changes at %s, want %s", got, changes)
			}
			if got := w.began(now); !got.Equal(start) {
				t.Errorf("began at %s, want %s", got, start)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	good := argo.SyncWindow{Kind: Deny, Schedule: "* * * * *", Duration: "1h"}
	for field, change := range map[string]func(*argo.SyncWindow){
		"kind":            func(w *argo.SyncWindow) { w.Kind = "maybe" },
		"schedule":        func(w *argo.SyncWindow) { w.Schedule = "@daily" },
		"duration":        func(w *argo.SyncWindow) { w.Duration = "-1h" },
		"timeZone":        func(w *argo.SyncWindow) { w.TimeZone = "Mars/Olympus" },
		"applications[1]": func(w *argo.SyncWindow) { w.Applications = []string{"*-prod", "[a-"} },
		"namespaces[0]":   func(w *argo.SyncWindow) { w.Namespaces = []string{"sh[op"} },
		"clusters[0]":     func(w *argo.SyncWindow) { w.Clusters = []string{"https://["} },
	} {
		w := good
		change(&w)
		_, err := Parse(w)
		var wrong *FieldError
		if !errors.As(err, &wrong) || wrong.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if _, err := ParseAll([]argo.SyncWindow{good, {Kind: Allow, Schedule: "x", Duration: "1h"}}); err == nil {
		t.Error("a project with a window that cannot be read is taken")
	}
}

func TestHolds(t *testing.T) {
	app := &argo.Application{}
	app.Name = "shop-prod"
	app.Spec.Destination = argo.ApplicationDestination{Name: "in-cluster", Namespace: "shop"}
	for _, c := range []struct {
		name string
		w    argo.SyncWindow
		want bool
	}{
		{"nothing given", argo.SyncWindow{}, false},
		{"nothing given, and", argo.SyncWindow{UseAndOperator: true}, false},
		{"application", argo.SyncWindow{Applications: []string{"*-prod"}}, true},
		{"namespace", argo.SyncWindow{Namespaces: []string{"sh*"}}, true},
		{"cluster's name", argo.SyncWindow{Clusters: []string{"in-*"}}, true},
		{"another cluster", argo.SyncWindow{Clusters: []string{"prod"}}, false},
		{"any server", argo.SyncWindow{Clusters: []string{"https://*"}}, false},
		{"one of two", argo.SyncWindow{Applications: []string{"x"}, Namespaces: []string{"shop"}}, true},
		{"one of two, and", argo.SyncWindow{Applications: []string{"x"}, Namespaces: []string{"shop"}, UseAndOperator: true}, false},
		{"both, and", argo.SyncWindow{Applications: []string{"shop-*"}, Namespaces: []string{"shop"}, UseAndOperator: true}, true},
		{"no pattern", argo.SyncWindow{Applications: []string{"[", "shop-prod"}}, true},
	} {
		if got := (Window{SyncWindow: c.w}).Holds(app); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// The rules of Argo CD's documentation, and its nine transitions.
func TestJudge(t *testing.T) {
	allow := func(schedule string, opts ...func(*argo.SyncWindow)) argo.SyncWindow {
		w := argo.SyncWindow{Kind: Allow, Schedule: schedule, Duration: "1h"}
		for _, o := range opts {
			o(&w)
		}
		return w
	}
	deny := func(schedule string, opts ...func(*argo.SyncWindow)) argo.SyncWindow {
		w := allow(schedule, opts...)
		w.Kind = Deny
		return w
	}
	manual := func(w *argo.SyncWindow) { w.ManualSync = true }
	overrun := func(w *argo.SyncWindow) { w.SyncOverrun = true }
	const now, before = "2026-03-01T12:30:00Z", "2026-03-01T11:30:00Z"
	const open, wasOpen, later = "0 12 * * *", "0 11 * * *", "0 14 * * *"
	for _, c := range []struct {
		name    string
		windows []argo.SyncWindow
		manual  bool
		began   string
		want    bool
		until   string
	}{
		{"no windows", nil, false, "", true, ""},
		{"allow, open", []argo.SyncWindow{allow(open)}, false, "", true, ""},
		{"allow, closed", []argo.SyncWindow{allow(later)}, false, "", false, "2026-03-01T14:00:00Z"},
		{"two allow, one open", []argo.SyncWindow{allow(open), allow(later)}, false, "", true, ""},
		{"deny, closed", []argo.SyncWindow{deny(later)}, false, "", true, ""},
		{"deny, open", []argo.SyncWindow{deny(open)}, false, "", false, "2026-03-01T13:00:00Z"},
		{"deny beats allow", []argo.SyncWindow{allow(open), deny(open)}, false, "", false, ""},
		{"by hand, not permitted", []argo.SyncWindow{deny(open)}, true, "", false, "2026-03-01T13:00:00Z"},
		{"by hand, permitted", []argo.SyncWindow{deny(open, manual)}, true, "", true, ""},
		{"by hand, not by all", []argo.SyncWindow{deny(open, manual), deny("15 12 * * *")}, true, "", false, "2026-03-01T13:15:00Z"},
		{"by hand, allow closed", []argo.SyncWindow{allow(later)}, true, "", false, "2026-03-01T14:00:00Z"},
		{"by hand, allow closed, permitted", []argo.SyncWindow{allow(later, manual)}, true, "", true, ""},
		{"1: none, deny with overrun", []argo.SyncWindow{deny(open, overrun)}, false, before, true, ""},
		{"2: none, deny without", []argo.SyncWindow{deny(open)}, false, before, false, "2026-03-01T13:00:00Z"},
		{"3: allow with, deny with", []argo.SyncWindow{allow(wasOpen, overrun), deny(open, overrun)}, false, before, true, ""},
		{"4: allow with, deny without", []argo.SyncWindow{allow(wasOpen, overrun), deny(open)}, false, before, false, "2026-03-02T11:00:00Z"},
		{"5: allow without, deny with", []argo.SyncWindow{allow(wasOpen), deny(open, overrun)}, false, before, true, ""},
		{"6: neither", []argo.SyncWindow{allow(wasOpen), deny(open)}, false, before, false, "2026-03-02T11:00:00Z"},
		{"7: allow ends", []argo.SyncWindow{allow(wasOpen, overrun)}, false, before, true, ""},
		{"8: all end", []argo.SyncWindow{allow(wasOpen, overrun), allow("30 10 * * *", overrun)}, false, before, true, ""},
		{"9: all end, one without", []argo.SyncWindow{allow(wasOpen, overrun), allow("30 10 * * *")}, false, before, false, "2026-03-02T10:30:00Z"},
		{"overrun of what was not permitted", []argo.SyncWindow{deny(open, overrun)}, false, "2026-03-01T12:10:00Z", false, "2026-03-01T13:00:00Z"},
		{"an allow that never opens", []argo.SyncWindow{allow("0 0 31 2 *")}, false, "", false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			ws, err := ParseAll(c.windows)
			if err != nil {
				t.Fatal(err)
			}
			op := Operation{Manual: c.manual}
			if c.began != "" {
				op.Started = at(t, c.began)
			}
			v := ws.Judge(at(t, now), op)
			if v.Permitted != c.want || v.Permitted != (len(v.Because) == 0) {
				t.Errorf("permitted %v because of %q", v.Permitted, v.Because)
			}
			var until time.Time
			if c.until != "" {
				until = at(t, c.until)
			}
			if !v.Until.Equal(until) {
				t.Errorf("until %s, want %s", v.Until, until)
			}
		})
	}
}

// Windows that leave no time are found out about in bounded time.
func TestJudgeEnds(t *testing.T) {
	ws, err := ParseAll([]argo.SyncWindow{
		{Kind: Deny, Schedule: "* * * * *", Duration: "2h"},
		{Kind: Deny, Schedule: "* 0-5 * * *", Duration: "8760h"},
	})
	if err != nil {
		t.Fatal(err)
	}
	now := at(t, "2026-03-01T12:30:00Z")
	if v := ws.Judge(now, Operation{}); v.Permitted || !v.Until.IsZero() {
		t.Errorf("%+v", v)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("deny", "0 22 * * *", "1h", "Europe/Amsterdam")
	f.Add("allow", "*/5 1-3,7 L * MON", "1h30m", "")
	f.Add("allow", "CRON_TZ=Asia/Tokyo 0 6 * * ?", "8760h", "UTC")
	now := time.Date(2026, 3, 1, 12, 30, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, kind, schedule, duration, zone string) {
		w, err := Parse(argo.SyncWindow{Kind: kind, Schedule: schedule, Duration: duration, TimeZone: zone})
		if err != nil || w.length > 365*24*time.Hour {
			return
		}
		if next := w.changes(now); !next.IsZero() && !next.After(now) {
			t.Errorf("%s changes at %s, which is not after now", w, next)
		}
		if start := w.began(now); !start.IsZero() && (start.After(now) || !start.Add(w.length).After(now)) {
			t.Errorf("%s began at %s", w, start)
		}
	})
}
