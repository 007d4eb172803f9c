package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// during makes a fault, has a commit and drift come while it lasts, ends it, and
// counts what came of it.
func (r *faultRig) during(t *testing.T, name string, lasts time.Duration, begin, end func()) {
	t.Helper()
	ended := false
	defer func() {
		if !ended {
			end()
		}
	}()
	begin()
	r.change(t)
	r.drift(t)
	time.Sleep(lasts)
	end()
	ended = true
	r.converged(t, name)
}

// converged waits until all is as Git has it, and counts it in the report.
func (r *faultRig) converged(t *testing.T, name string) {
	t.Helper()
	row := r.rows[name]
	if row == nil {
		row = &faultRow{Fault: name}
		r.rows[name] = row
	}
	row.Times++
	eventually(t, func() string {
		if err := r.pushed(t.Context()); err != nil {
			return err.Error()
		}
		return ""
	})
	began, say := time.Now(), ""
	deadline := began.Add(long(patience, 5*time.Minute))
	for {
		lost, orphaned, err := r.differences(t.Context())
		unsettled := ""
		if err == nil {
			unsettled, err = r.unsettled(t.Context())
		}
		if err == nil && len(lost)+len(orphaned) == 0 && unsettled == "" {
			row.Converged++
			break
		}
		if say = fmt.Sprint(unsettled, lost, orphaned, err); time.Now().After(deadline) {
			row.Lost += len(lost)
			row.Orphaned += len(orphaned)
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	row.Slowest = max(row.Slowest, time.Since(began))
	r.report.set(t, *row)
	if row.Converged < row.Times {
		r.keep(t)
		t.Fatalf("version %d, %s: after %s still: %s", r.version, name, patience, say)
	}
}

// killed: kill -9 in the middle of syncs.
func (r *faultRig) killed(t *testing.T) {
	times := 2
	if soak() {
		times = 20
	}
	for range times {
		r.change(t)
		r.drift(t)
		time.Sleep(time.Duration(rand.IntN(2500)) * time.Millisecond)
		r.kill(t)
		r.converged(t, "kill -9 in the middle of a sync")
	}
}

// slow: each answer of the API server takes its time, and some take long.
func (r *faultRig) slow(t *testing.T) {
	r.during(t, "API server slow: 0.1 to 2 s an answer", long(2*time.Second, 2*time.Minute), func() {
		r.api.set(func(_ http.ResponseWriter, req *http.Request) bool {
			wait := 100 * time.Millisecond
			if rand.IntN(20) == 0 {
				wait = 2 * time.Second
			}
			select {
			case <-time.After(wait):
			case <-req.Context().Done():
			}
			return false
		})
	}, func() { r.api.set(nil) })
}

// refuses: half of the answers are refusals.
func (r *faultRig) refuses(t *testing.T) {
	all := []int{http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable}
	each := [][]int{all}
	if soak() {
		each = [][]int{all[:1], all[1:2], all[2:]}
	}
	for _, codes := range each {
		before := r.api.spoiled.Load()
		r.during(t, fmt.Sprintf("API server answers %d to half of the requests", codes), long(time.Second, time.Minute), func() {
			r.api.set(func(w http.ResponseWriter, _ *http.Request) bool {
				if rand.IntN(2) == 0 {
					return false
				}
				refuse(w, codes[rand.IntN(len(codes))])
				return true
			})
		}, func() { r.api.set(nil) })
		if r.api.spoiled.Load() == before {
			t.Errorf("no request was refused with %d", codes)
		}
	}
}

// unreachable: connections are cut, those that are open and the new ones.
func (r *faultRig) unreachable(t *testing.T) {
	r.during(t, "API server unreachable", long(2*time.Second, 3*time.Minute), func() {
		r.api.set(func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) })
		r.api.server.CloseClientConnections()
	}, func() { r.api.set(nil) })
	r.during(t, "API server's answers cut off in the middle", long(time.Second, time.Minute), func() {
		r.api.set(func(w http.ResponseWriter, req *http.Request) bool {
			if rand.IntN(4) > 0 {
				return false
			}
			// It is done, and nobody is told.
			r.api.next.ServeHTTP(cutOff{w}, req)
			return true
		})
	}, func() { r.api.set(nil) })
}

// cutOff lets the header of an answer through, and none of its body.
type cutOff struct{ http.ResponseWriter }

func (c cutOff) Write([]byte) (int, error) {
	panic(http.ErrAbortHandler)
}

// dropped: watches end without a word while what they would show happens.
func (r *faultRig) dropped(t *testing.T) {
	times := 1
	if soak() {
		times = 20
	}
	for range times {
		eventually(t, func() string {
			if r.api.dropWatches() == 0 {
				return "there is no watch to drop"
			}
			return ""
		})
		r.change(t)
		r.drift(t)
		r.api.dropWatches()
		r.converged(t, "watches dropped")
	}
}

// restarted: the control plane dies, and comes back.
func (r *faultRig) restarted(t *testing.T) {
	r.during(t, "API server restarted", 0, func() {
		r.change(t)
		if err := r.cluster.Kill(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(long(time.Second, time.Minute))
		if err := r.cluster.Restart(); err != nil {
			t.Fatal(err)
		}
	}, func() {})
}

// gitAway: the Git server refuses, fails, or does not answer at all. What was
// delivered stays, and drift is healed all the same.
func (r *faultRig) gitAway(t *testing.T) {
	for name, away := range map[string]func(http.ResponseWriter, *http.Request){
		"fails":      func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "away", http.StatusBadGateway) },
		"cuts off":   func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"is silent":  func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() },
		"talks junk": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>maintenance</html>") },
	} {
		if !soak() && name != "fails" && name != "is silent" {
			continue
		}
		r.during(t, "Git server "+name, long(time.Second, 3*time.Minute), func() {
			r.git.set(away)
			r.kubectl(t, "patch", "configmap", "m-05", "-n", faultFlux, "--type=merge", "-p", `{"data":{"key":"drifted"}}`)
			r.says(t, fmt.Sprintf("v%d", r.version), "get", "configmap", "m-05", "-n", faultFlux, "-o", "jsonpath={.data.key}")
		}, func() {
			r.git.set(nil)
			r.git.CloseClientConnections()
		})
	}
}

// clockJumps: the server's wall clock is set, a day forth and two back, and to
// years later.
func (r *faultRig) clockJumps(t *testing.T) {
	const day = 24 * time.Hour
	c := clockOf(t, r.status(t).PID)
	jumps := []time.Duration{25 * time.Hour, -2 * day}
	if soak() {
		jumps = append(jumps, 0, 400*day, -400*day)
	}
	for _, jump := range jumps {
		r.during(t, "the wall clock jumps", long(time.Second, 30*time.Second), func() {
			r.change(t)
			c.jump(t, jump)
		}, func() {})
	}
	r.kill(t) // with a clock that is right again
	r.converged(t, "the wall clock jumps")
}

// diskFull: there is no room for what is fetched.
func (r *faultRig) diskFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small disk takes root")
	}
	r.small = true
	defer func() {
		r.small = false
		r.kill(t)
	}()
	r.kill(t)
	// The mount is in the server's own namespace, to be reached by its process.
	disk := filepath.Join(fmt.Sprintf("/proc/%d/root", r.status(t).PID), r.mirrors())
	eventually(t, func() string {
		if there, _ := filepath.Glob(filepath.Join(disk, "*.git", "fairway-mirror.json")); len(there) == 0 {
			return "nothing was fetched yet"
		}
		return ""
	})
	r.converged(t, "the disk of the mirrors is full")
	filler := filepath.Join(disk, "filler")
	fill := func() {
		f, err := os.Create(filler)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := io.Copy(f, zeros{}); err == nil {
			t.Fatal("the disk does not fill")
		}
	}
	r.during(t, "the disk of the mirrors is full", long(2*time.Second, time.Minute), func() {
		fill()
		r.push(t, r.work[faultFlux], map[string]string{"unrelated.bin": strings.Repeat("0123456789abcdef", 4096)})
		eventually(t, func() string {
			out := r.kubectl(t, "get", "gitrepository", faultFlux, "-n", "default", "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].message}`)
			if !strings.Contains(strings.ToLower(out), "no space left on device") {
				return "the GitRepository does not say that the disk is full: " + out
			}
			return ""
		})
	}, func() {
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
	})
	if left, _ := filepath.Glob(filepath.Join(disk, "*.git", "objects", "pack", "tmp_*")); len(left) > 0 {
		t.Errorf("what could not be written was left behind: %v", left)
	}
}

// zeros is a reader without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
