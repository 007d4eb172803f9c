package shard

import (
	"context"
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-cd/fairway/internal/core/fence"
	"github.com/fairway-cd/fairway/internal/testkit"
)

var cluster *testkit.Cluster

func TestMain(m *testing.M) { testkit.RunWithCluster(m, &cluster, testkit.ClusterOptions{}) }

func newShards(t *testing.T, namespace, identity string) *Shards {
	t.Helper()
	s, err := New(cluster.Client.CoordinationV1(), Options{
		Name: "test", Namespace: namespace, Identity: identity, Count: 5, Duration: 5 * time.Second, Renew: 100 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// uidOf is an object of the shard.
func uidOf(s *Shards, shard int) types.UID {
	for i := 0; ; i++ {
		if uid := types.UID(fmt.Sprint(i)); s.Of(uid) == shard {
			return uid
		}
	}
}

func holds(t *testing.T, s *Shards, want int) {
	t.Helper()
	testkit.Eventually(t, fmt.Sprintf("%s to hold %d shards", s.opts.Identity, want), func() error {
		if n := s.Held(); n != want {
			return fmt.Errorf("it holds %d", n)
		}
		return nil
	})
}

func run(s *Shards) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	return func() {
		cancel()
		<-done
	}
}

func TestReplicasShareAndHandOver(t *testing.T) {
	namespace := cluster.Namespace(t)
	a, b := newShards(t, namespace, "a"), newShards(t, namespace, "b")
	stopA := run(a)
	holds(t, a, 5)
	// What is worked on when its shard is handed over ends, and is waited for.
	type work struct {
		ctx   context.Context
		leave func()
	}
	var works []work
	for n := range 5 {
		ctx, leave, ours := a.Enter(t.Context(), uidOf(a, n))
		if !ours || fence.From(ctx) == nil || !fence.From(ctx).Holds() {
			t.Fatalf("shard %d is not a's", n)
		}
		works = append(works, work{ctx, leave})
	}
	stopB := run(b)
	ended := make(chan int, 5)
	for n, w := range works {
		go func() {
			<-w.ctx.Done()
			if fence.From(w.ctx).Holds() {
				t.Errorf("what is worked on in shard %d may still write", n)
			}
			w.leave()
			ended <- n
		}()
	}
	holds(t, a, 3)
	holds(t, b, 2)
	for range 2 {
		n := <-ended
		if _, _, ours := a.Enter(t.Context(), uidOf(a, n)); ours {
			t.Errorf("shard %d was handed over, and is still a's", n)
		}
	}
	stopA() // which waits for the rest
	if len(ended) != 3 {
		t.Errorf("a has ended, and %d of its works", len(ended))
	}
	holds(t, b, 5)
	stopB()
	if b.Held() != 0 {
		t.Errorf("b has ended and holds %d", b.Held())
	}
}

func TestReplicaThatGivesNoSign(t *testing.T) {
	namespace := cluster.Namespace(t)
	a, b := newShards(t, namespace, "a"), newShards(t, namespace, "b")
	// a gives a sign once, and no more.
	if err := a.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, leave, ours := a.Enter(t.Context(), uidOf(a, 0))
	if !ours {
		t.Fatal("it has nothing")
	}
	defer leave()
	defer run(b)()
	holds(t, b, 5) // and so has taken what was a's
	if fence.From(ctx).Holds() {
		t.Error("a may still write what b has taken")
	}
	if _, _, ours := a.Enter(t.Context(), uidOf(a, 0)); ours {
		t.Error("a still takes it for its own")
	}
	// A sign of life brings nothing back.
	if err := a.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	if fence.From(ctx).Holds() {
		t.Error("what a began before may write again")
	}
	<-ctx.Done()
}

func TestDeadline(t *testing.T) {
	now := time.Now()
	d := deadlineAt(now.Add(time.Minute))
	var none *deadline
	if d.passed(now) || !d.passed(now.Add(time.Minute)) || !none.passed(now) {
		t.Error("a deadline passes when its time has come")
	}
	// The machine stood still for an hour: only the wall's clock has gone on.
	still := &deadline{steady: now.Add(time.Minute), wall: now.Add(-time.Hour).Round(0)}
	if !still.passed(now) {
		t.Error("the wall's clock is not heeded")
	}
	// The wall's clock was set back.
	back := &deadline{steady: now.Add(-time.Second), wall: now.Add(time.Hour).Round(0)}
	if !back.passed(now) {
		t.Error("the steady clock is not heeded")
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{}, {Name: "a", Namespace: "b", Identity: "c"},
		{Name: "a", Namespace: "b", Identity: "c", Count: 1, Duration: 3 * time.Second, Renew: 2 * time.Second},
	} {
		if _, err := New(cluster.Client.CoordinationV1(), o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}
