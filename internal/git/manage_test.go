package git

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/fairway-cd/fairway/internal/core"
)

func TestManage(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.HomeRepository = core.Name{Namespace: "default", Name: "home"} })
	ctx := t.Context()
	if _, err := w.Show(ctx, webName); !errors.As(err, new(*NotFoundError)) {
		t.Errorf("show: %v", err)
	}
	if err := w.Delete(ctx, webName); !errors.As(err, new(*NotFoundError)) {
		t.Errorf("delete: %v", err)
	}
	var wg sync.WaitGroup
	var made atomic.Int32
	for range 8 {
		wg.Go(func() {
			if err := w.Create(ctx, webName); err == nil {
				made.Add(1)
			} else if !errors.As(err, new(*ExistsError)) {
				t.Errorf("create: %v", err)
			}
		})
	}
	wg.Wait()
	if made.Load() != 1 {
		t.Errorf("created %d times", made.Load())
	}
	for _, name := range []core.Name{{}, {Namespace: "a"}, {Namespace: "..", Name: "x"}, {Namespace: "a", Name: "../x"}, {Namespace: "a", Name: "b/c"}, {Namespace: "a", Name: "x.git"}, {Namespace: "a", Name: "x.lock"}} {
		if err := w.Create(ctx, name); !errors.As(err, new(*core.InvalidNameError)) {
			t.Errorf("create %v: %v", name, err)
		}
	}

	c := newClient(t)
	c.commit("a", "1")
	c.git("push", "-q", w.as("alice", "web"), "HEAD:trunk")
	one := w.got.wait(t, 1)[0]
	if info, err := w.Show(ctx, webName); err != nil || info.DefaultBranch != "trunk" || info.LastPushBy != "alice" {
		t.Errorf("%+v, %v", info, err)
	}
	if err := w.SetDefaultBranch(ctx, webName, "main"); err != nil {
		t.Error(err)
	}
	if info, err := w.Show(ctx, webName); err != nil || info.DefaultBranch != "trunk" {
		t.Errorf("a branch that is not there: %+v, %v", info, err)
	}
	c.git("push", "-q", w.as("alice", "web"), "HEAD:next")
	w.got.wait(t, 2)
	if err := w.SetDefaultBranch(ctx, webName, "next"); err != nil {
		t.Error(err)
	}
	clone := newClient(t)
	clone.git("clone", "-q", w.as("alice", "web"), "x")
	if head := clone.git("-C", "x", "branch", "--show-current"); strings.TrimSpace(head) != "next" {
		t.Errorf("a clone checks out %q", head)
	}
	c.git("push", "-q", w.as("alice", ""), "main") // the home repository
	w.got.wait(t, 3)
	if s, err := w.Resolve(ctx, w.url+"/git", Ref{}, Auth{}); err != nil || s.Revision.Ref != "refs/heads/main" {
		t.Errorf("home: %v, %v", s.Revision, err)
	}
	names, err := w.List(ctx)
	if err != nil || len(names) != 2 || names[0].Name != "home" || names[1] != webName {
		t.Errorf("%v, %v", names, err)
	}

	// The same name again, the same commit: another event.
	if err := w.Delete(ctx, webName); err != nil {
		t.Fatal(err)
	}
	if there, err := w.Exists(ctx, webName); err != nil || there {
		t.Errorf("%v, %v", there, err)
	}
	c.git("push", "-q", w.as("alice", "web"), "HEAD:trunk")
	if again := w.got.wait(t, 4)[3]; again.ID == one.ID || again.New != one.New {
		t.Errorf("%+v", again)
	}
}

func TestCreateCallback(t *testing.T) {
	var asked []string
	var refuse error
	w := newWorld(t, func(o *Options) {
		o.Create = func(_ context.Context, u core.User, n core.Name) error {
			asked = append(asked, u.Name+" "+n.String())
			return refuse
		}
	})
	c := newClient(t)
	c.commit("a", "1")
	refuse = &core.UnavailableError{What: "the API server", Err: errors.New("away")}
	c.mustFail([]string{"503", "the API server is unavailable: away"}, "push", w.as("alice", "web"), "main")
	if there, _ := w.Exists(t.Context(), webName); there {
		t.Error("the repository was made although the callback refused")
	}
	refuse = nil
	c.git("push", "-q", w.as("alice", "web"), "main")
	c.git("push", "-q", w.as("alice", "web"), "main:b")
	if len(asked) != 2 || asked[1] != "alice default/web" {
		t.Errorf("%q", asked)
	}
}
