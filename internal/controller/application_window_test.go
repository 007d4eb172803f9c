package controller

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

// windows is a project that permits everything, in these windows.
func windows(name string, list ...string) string {
	project := "apiVersion: argoproj.io/v1alpha1\nkind: AppProject\nmetadata: {name: " + name + ", namespace: argocd}\nspec:\n" +
		"  sourceRepos: ['*']\n  destinations: [{server: '*', namespace: '*'}]\n  clusterResourceWhitelist: [{group: '*', kind: '*'}]\n"
	if len(list) > 0 {
		project += "  syncWindows:\n"
	}
	for _, w := range list {
		project += "  - " + w + "\n"
	}
	return project
}

const neverOpens = "{kind: allow, schedule: '0 0 31 2 *', duration: 1h, applications: ['*']}"

func held(a *argo.Application) bool {
	for _, c := range a.Status.Conditions {
		if c.Type == argo.ConditionSyncWindowWarning {
			return true
		}
	}
	return false
}

// What a window forbids is not done, the status says which window it is, and a
// change of the project is acted on at once.
func TestSyncWindowHoldsBack(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	repo := h.repo("windows", map[string]string{"app/a.yaml": configMap("a", "1")})
	h.apply(windows("windows", neverOpens))
	h.apply(strings.Replace(h.application("windows", "windows", "app", "windows", automated), "project: default", "project: windows", 1))
	defer h.delete(appObject("windows"))

	a := h.waitApp("windows", "to be held back", held)
	if a.Status.Sync.Status != argo.SyncOutOfSync || a.Operation != nil || a.Status.OperationState != nil {
		t.Fatalf("held back before its first sync: %s", describe(a))
	}
	if _, err := h.live("v1", "ConfigMap", "windows", "a"); client.IgnoreNotFound(err) != nil || err == nil {
		t.Fatalf("it was synced: %v", err)
	}
	h.apply(windows("windows"))
	h.waitApp("windows", "to be synced", func(a *argo.Application) bool { return healthy(a) && !held(a) })

	// Neither is drift healed, nor a commit brought out; a manual sync is asked
	// for and waits, unless the windows permit it.
	h.apply(windows("windows", "{kind: deny, schedule: '* * * * *', duration: 1h, namespaces: ['win*']}"))
	h.push(repo, map[string]string{"app/a.yaml": configMap("a", "2")})
	h.waitApp("windows", "to be held back again", func(a *argo.Application) bool {
		return held(a) && a.Status.Sync.Status == argo.SyncOutOfSync
	})
	live := h.waitLive("v1", "ConfigMap", "windows", "a", field("1", "data", "key"))
	live.Object["data"] = map[string]any{"key": "by hand"}
	if err := h.kube.Update(t.Context(), live, client.FieldOwner("kubectl-edit")); err != nil {
		t.Fatal(err)
	}
	h.sync("windows")
	a = h.waitApp("windows", "to have a sync that waits", func(a *argo.Application) bool {
		s := a.Status.OperationState
		return s != nil && s.Phase == argo.OperationRunning && strings.Contains(s.Message, "held back by the sync window deny:* * * * *:1h")
	})
	if a.Operation == nil {
		t.Fatalf("the operation is gone: %s", describe(a))
	}
	h.waitLive("v1", "ConfigMap", "windows", "a", field("by hand", "data", "key"))
	h.apply(windows("windows", "{kind: deny, schedule: '* * * * *', duration: 1h, namespaces: ['win*'], manualSync: true}"))
	h.waitApp("windows", "to be synced by hand", func(a *argo.Application) bool {
		return healthy(a) && a.Status.OperationState.Phase == argo.OperationSucceeded && !a.Status.OperationState.Operation.InitiatedBy.Automated
	})
	h.waitLive("v1", "ConfigMap", "windows", "a", field("2", "data", "key"))

	h.apply(windows("windows", "{kind: deny, schedule: 'now and then', duration: 1h, timeZone: Mars}"))
	h.waitApp("windows", "to be refused", func(a *argo.Application) bool {
		return a.Status.Sync.Status == argo.SyncUnknown && strings.Contains(describe(a), "spec.syncWindows[0].timeZone")
	})
}

// sync asks for a sync by hand.
func (h *house) sync(name string) {
	h.t.Helper()
	a, err := h.app(name)
	if err != nil {
		h.t.Fatal(err)
	}
	before := a.DeepCopy()
	a.Operation = &argo.Operation{InitiatedBy: argo.OperationInitiator{Username: "alice"}, Sync: &argo.SyncOperation{}}
	if err := h.kube.Patch(h.t.Context(), a, client.MergeFrom(before)); err != nil {
		h.t.Fatal(err)
	}
}

// A sync that waits for its window goes on by itself when that opens.
func TestSyncWindowOpensByItself(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	h.repo("opens", map[string]string{"app/a.yaml": configMap("a", "1")})
	// It denies since the beginning of this minute, for a few seconds more.
	now := time.Now().UTC()
	length := now.Sub(now.Truncate(time.Minute)).Truncate(time.Second) + 8*time.Second
	h.apply(windows("opens", fmt.Sprintf("{kind: deny, schedule: '%d %d * * *', duration: %s, applications: [opens]}", now.Minute(), now.Hour(), length)))
	h.apply(strings.Replace(h.application("opens", "opens", "app", "opens", automated), "project: default", "project: opens", 1))
	defer h.delete(appObject("opens"))
	h.waitApp("opens", "to be held back", held)
	a := h.waitApp("opens", "to be synced", func(a *argo.Application) bool { return healthy(a) && !held(a) })
	if began, opened := a.Status.OperationState.StartedAt.Time, now.Truncate(time.Minute).Add(length); began.Before(opened) {
		t.Errorf("it began at %s, before %s", began, opened)
	}
}

// What runs when its window closes stops where it next waits, as in Argo CD,
// and goes on with syncOverrun.
func TestSyncWindowCloses(t *testing.T) {
	for name, overrun := range map[string]bool{"stops": false, "overruns": true} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			h.namespace("argocd")
			h.repo(name, map[string]string{"app/a.yaml": configMap("a", "1"), "app/h.yaml": stuck("h", hookAnnotation+"PreSync")})
			// It allows since the beginning of this minute, for a few seconds more.
			now := time.Now().UTC()
			length := now.Sub(now.Truncate(time.Minute)).Truncate(time.Second) + 8*time.Second
			h.apply(windows(name, fmt.Sprintf("{kind: allow, schedule: '%d %d * * *', duration: %s, applications: [%s], syncOverrun: %t}",
				now.Minute(), now.Hour(), length, name, overrun)))
			h.apply(strings.Replace(h.application(name, name, "app", name, automated), "project: default", "project: "+name, 1))
			defer h.delete(appObject(name))
			h.waitApp(name, "to wait for its hook", phaseIs(argo.OperationRunning, "waiting for completion of hook"))
			time.Sleep(time.Until(now.Truncate(time.Minute).Add(length)))
			h.phase(name, "h", corev1.PodSucceeded)
			if !overrun {
				h.waitApp(name, "to be held back", func(a *argo.Application) bool {
					return held(a) && phaseIs(argo.OperationRunning, "held back by the sync window allow:")(a)
				})
				if _, err := h.live("v1", "ConfigMap", name, "a"); client.IgnoreNotFound(err) != nil || err == nil {
					t.Fatalf("it went on: %v", err)
				}
				h.apply(windows(name))
			}
			h.waitApp(name, "to be synced", healthy)
		})
	}
}
