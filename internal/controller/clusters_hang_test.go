package controller

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/fleet"
)

// wire is a way to a cluster that can be made to swallow everything, as a
// firewall does: connections are accepted and stay open, and nothing comes
// through.
type wire struct {
	listener net.Listener
	to       string
	mu       sync.Mutex
	open     *sync.Cond
	stalled  bool
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: l, to: to}
	w.open = sync.NewCond(&w.mu)
	t.Cleanup(func() {
		l.Close()
		w.stall(false)
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go w.carry(c)
		}
	}()
	return w
}

func (w *wire) stall(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stalled = on
	w.open.Broadcast()
}

func (w *wire) wait() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.stalled {
		w.open.Wait()
	}
}

func (w *wire) carry(c net.Conn) {
	defer c.Close()
	far, err := net.Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer far.Close()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{c, far}, {far, c}} {
		both.Go(func() {
			defer way[1].Close()
			buffer := make([]byte, 32<<10)
			for {
				n, err := way[0].Read(buffer)
				w.wait()
				if n > 0 {
					if _, err := way[1].Write(buffer[:n]); err != nil {
						return
					}
				}
				if err != nil {
					if err != io.EOF { //nolint:errorlint // Read returns it itself
						way[0].Close()
					}
					return
				}
			}
		})
	}
	both.Wait()
}

// TestClusterThatHangs has more deliveries than there may be turns in a cluster
// that takes everything and answers nothing.
func TestClusterThatHangs(t *testing.T) {
	h := newHouse(t, func(o *Options) { o.Workers = 24 })
	us := otherCluster(t)
	u, err := url.Parse(us.Config.Host)
	if err != nil {
		t.Fatal(err)
	}
	w := newWire(t, u.Host)
	through := rest.CopyConfig(us.Config)
	through.Host = "https://" + w.listener.Addr().String()
	h.know(secretOf(t, "hangs", through))

	const n = 30
	files := func(value string) map[string]string {
		files := map[string]string{"near/cm.yaml": configMap("near", value)}
		for i := range n {
			files[fmt.Sprintf("far%d/cm.yaml", i)] = configMap(fmt.Sprintf("far%d", i), value)
		}
		return files
	}
	r := h.repo("hangs", files("one"))
	for i := range n {
		name := fmt.Sprintf("far%d", i)
		h.apply(strings.Replace(h.application(name, "hangs", name, "default", automated), "server: https://kubernetes.default.svc", "name: hangs", 1))
	}
	h.apply(h.application("near", "hangs", "near", "default", automated))
	for i := range n {
		h.waitApp(fmt.Sprintf("far%d", i), "is in sync", healthy)
	}
	h.waitApp("near", "is in sync", healthy)

	w.stall(true)
	h.push(r, files("two"))
	h.waitLive("v1", "ConfigMap", "default", "near", field("two", "data", "key"))
	for i := range n {
		h.waitApp(fmt.Sprintf("far%d", i), "is away", func(a *argo.Application) bool {
			return conditionSays(a, argo.ConditionClusterAwayError, `cluster "hangs"`, "does not answer in time")
		})
	}
	// While it is away nobody waits for it.
	h.push(r, files("three"))
	h.waitLive("v1", "ConfigMap", "default", "near", field("three", "data", "key"))
	known, err := h.engine.clusters.known(t.Context())
	if err != nil || len(known) != 1 || h.engine.stages.Fleet.Connection(known[0].cluster).Phase != fleet.Away {
		t.Errorf("the cluster is not away any more: %v", err)
	}
	if m, err := us.Client.CoreV1().ConfigMaps("default").Get(t.Context(), "far0", metav1.GetOptions{}); err != nil || m.Data["key"] == "three" {
		t.Errorf("something came through: %v", err)
	}

	w.stall(false)
	for i := range n {
		inside(t, us, "default", fmt.Sprintf("far%d", i), "three")
		h.waitApp(fmt.Sprintf("far%d", i), "is back", func(a *argo.Application) bool { return healthy(a) && len(a.Status.Conditions) == 0 })
	}
	for i := range n {
		h.delete(appObject(fmt.Sprintf("far%d", i)))
	}
	h.delete(appObject("near"))
	h.delete(secretOf(t, "hangs", through))
}

// TestClusterOfSomeNamespaces delivers with a credential that may see some
// namespaces alone, and refuses what is elsewhere.
func TestClusterOfSomeNamespaces(t *testing.T) {
	h := newHouse(t)
	us := otherCluster(t)
	cfg := restricted(t, us, "some")
	permit(t, us, "some", "shop", "pay")
	secret := secretOf(t, "some", cfg)
	secret.Data["namespaces"] = []byte("shop,pay")
	h.know(secret)
	h.repo("some", map[string]string{"app/cm.yaml": configMap("settings", "one"), "wide/ns.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: wide}\n"})
	to := func(name, path, namespace string) string {
		return strings.Replace(h.application(name, "some", path, namespace, "  syncPolicy:\n    automated: {prune: true, selfHeal: true}\n"), "server: https://kubernetes.default.svc", "name: some", 1)
	}
	h.apply(to("some", "app", "shop"))
	inside(t, us, "shop", "settings", "one")
	h.waitApp("some", "is in sync", healthy)
	m, err := us.Client.CoreV1().ConfigMaps("shop").Get(t.Context(), "settings", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m.Data["key"] = "by hand"
	if _, err := us.Client.CoreV1().ConfigMaps("shop").Update(t.Context(), m, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	inside(t, us, "shop", "settings", "one")

	for name, words := range map[string][]string{"elsewhere": {"in none of its namespaces", "default/settings"}, "wide": {"whole cluster", "Namespace wide"}} {
		path := map[string]string{"elsewhere": "app", "wide": "wide"}[name]
		h.apply(to(name, path, "default"))
		h.waitApp(name, "is refused", func(a *argo.Application) bool {
			return conditionSays(a, argo.ConditionSyncError, words...) || conditionSays(a, argo.ConditionComparisonError, words...)
		})
		h.delete(appObject(name))
	}
	h.delete(appObject("some"))
	h.delete(secret)
}
