package git

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// BenchmarkPush measures from the start of "git push" of one changed file to
// its event; the git client's own time is in it.
func BenchmarkPush(b *testing.B) {
	b.Run("event", func(b *testing.B) {
		w := &world{dir: b.TempDir(), got: newRecorder()}
		start(b, w)
		c := newClient(b)
		c.commit("n", "0")
		c.git("push", "-q", w.as("alice", "web"), "main")
		w.got.wait(b, 1)
		var event, done []time.Duration
		for i := range b.N {
			c.commit("n", fmt.Sprint(i, " changed"))
			begin := time.Now()
			finished := make(chan time.Duration)
			go func() {
				c.git("push", "-q", w.as("alice", "web"), "main")
				finished <- time.Since(begin)
			}()
			w.got.wait(b, 2+i)
			event = append(event, time.Since(begin))
			done = append(done, <-finished)
		}
		slices.Sort(event)
		slices.Sort(done)
		b.ReportMetric(float64(event[len(event)/2].Microseconds())/1000, "p50-event-ms")
		b.ReportMetric(float64(event[len(event)*95/100].Microseconds())/1000, "p95-event-ms")
		b.ReportMetric(float64(done[len(done)/2].Microseconds())/1000, "p50-push-ms")
	})
}

// BenchmarkResolve measures the look-up of HEAD and one file below it, after
// the first.
func BenchmarkResolve(b *testing.B) {
	w := &world{dir: b.TempDir(), got: newRecorder()}
	start(b, w)
	c := newClient(b)
	c.commit("apps/web/deployment.yaml", "kind: Deployment\n")
	c.git("push", "-q", w.as("alice", "web"), "main")
	for b.Loop() {
		s, err := w.Resolve(b.Context(), "/git/web", Ref{}, Auth{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Tree.Read(b.Context(), "apps/web/deployment.yaml"); err != nil {
			b.Fatal(err)
		}
	}
}
