package release_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-cd/fairway/internal/core/fence"
	"github.com/fairway-cd/fairway/internal/release"
)

type gate struct{ closed atomic.Bool }

func (g *gate) Holds() bool { return !g.closed.Load() }

// Who is not responsible any more writes nothing more: no object, and no
// record, whichever of Helm's actions it is in.
func TestFencedActions(t *testing.T) {
	namespace(t, "fenced")
	c, err := release.New(cluster.Config)
	if err != nil {
		t.Fatal(err)
	}
	target := release.Target{Name: "web", Namespace: "fenced", Storage: "fenced"}
	_, err = cluster.Client.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "fenced-user"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "fenced-user"}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	openWith := func(g *gate, user string) *release.Release {
		t.Helper()
		as := target
		as.User = user
		r, err := c.Release(fence.With(t.Context(), g), as)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	first := &gate{}
	if _, err := openWith(first, "").Install(t.Context(), chartOf(web("1.0.0")), map[string]any{"color": "blue"}, short); err != nil {
		t.Fatalf("while the fence holds: %v", err)
	}
	first.closed.Store(true)
	// closing closes the gate when the templates are rendered, which is after
	// all that is read and before all that is written.
	closing := func(g *gate, version string) release.Render {
		return func(ctx context.Context, asked release.RenderRequest) (*release.Rendered, error) {
			g.closed.Store(true)
			return chartOf(web(version))(ctx, asked)
		}
	}
	for name, act := range map[string]func() error{
		"upgrade": func() error {
			g := &gate{}
			_, err := openWith(g, "").Upgrade(t.Context(), closing(g, "1.1.0"), map[string]any{"color": "late"}, false, short)
			return err
		},
		"upgrade as a user": func() error {
			g := &gate{}
			_, err := openWith(g, "fenced-user").Upgrade(t.Context(), closing(g, "1.1.0"), map[string]any{"color": "late"}, false, short)
			return err
		},
		"rollback": func() error {
			_, err := openWith(first, "").Rollback(t.Context(), 1, short)
			return err
		},
		"uninstall": func() error { return openWith(first, "").Uninstall(t.Context(), short) },
		"unlock": func() error {
			last, err := open(t, "web", "fenced").Last(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return openWith(first, "").Unlock(last)
		},
	} {
		err := act()
		// Helm tells of an uninstallation only that it failed.
		if err == nil || name != "uninstall" && !errors.As(err, new(*fence.LostError)) {
			t.Errorf("%s: %v, want that it was not sent", name, err)
		}
	}
	list, err := cluster.Client.CoreV1().Secrets("fenced").List(t.Context(), metav1.ListOptions{LabelSelector: "owner=helm"})
	if err != nil || len(list.Items) != 1 {
		t.Errorf("%d revisions are recorded, want 1; %v", len(list.Items), err)
	}
	if got := data(t, "fenced", "web-config", "color"); got != "blue" {
		t.Errorf("the color is %q", got)
	}
	// The successor goes on, though it is one process here.
	rec, err := openWith(&gate{}, "").Upgrade(t.Context(), chartOf(web("1.1.0")), map[string]any{"color": "green"}, false, short)
	if err != nil || rec.Version != 2 || data(t, "fenced", "web-config", "color") != "green" {
		t.Errorf("the successor: %+v, %v", rec, err)
	}
}

// slow is a fence that holds for n writes, the last of which is on its way for
// so long that a successor has come and written meanwhile.
type slow struct {
	n         atomic.Int64
	successor func()
}

func (s *slow) Holds() bool {
	left := s.n.Add(-1)
	if left == 0 {
		s.successor()
	}
	return left >= 0
}

// What was sent while the fence held, and lands after the successor has
// written, goes over nothing of the successor's, whichever request it is.
func TestLateRequests(t *testing.T) {
	namespace(t, "late")
	c, err := release.New(cluster.Config)
	if err != nil {
		t.Fatal(err)
	}
	target := release.Target{Name: "web", Namespace: "late", Storage: "late"}
	if _, err := open(t, "web", "late").Install(t.Context(), chartOf(web("1.0.0")), map[string]any{"color": "blue"}, short); err != nil {
		t.Fatal(err)
	}
	refused := 0
	for n := int64(1); ; n++ {
		if n > 20 {
			t.Fatal("no upgrade came to its end")
		}
		f := &slow{successor: func() {
			_, err := cluster.Client.CoreV1().ConfigMaps("late").Patch(t.Context(), "web-config", types.MergePatchType, fmt.Appendf(nil, `{"data":{"color":"successor %d"}}`, n), metav1.PatchOptions{})
			if err != nil {
				t.Error(err)
			}
		}}
		f.n.Store(n)
		r, err := c.Release(fence.With(t.Context(), f), target)
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.Upgrade(t.Context(), chartOf(web("1.1.0")), map[string]any{"color": fmt.Sprint("late ", n)}, false, short)
		if err == nil {
			if f.n.Load() < 0 {
				t.Error("an upgrade was done by who is not responsible")
			}
			break
		}
		refused++
		if got := data(t, "late", "web-config", "color"); got != fmt.Sprint("successor ", n) {
			t.Errorf("request %d: the color is %q", n, got)
		}
		if last, err := open(t, "web", "late").Last(t.Context()); err != nil || open(t, "web", "late").Unlock(last) != nil {
			t.Fatal(err)
		}
	}
	if refused < 3 {
		t.Errorf("%d requests were tried, want at least the record, the object, and the record again", refused)
	}
}
