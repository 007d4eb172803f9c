package controller

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
	"github.com/fairway-cd/fairway/internal/drift"
	"github.com/fairway-cd/fairway/internal/testkit"
)

func drifts(names ...string) []drift.ObjectState {
	var list []drift.ObjectState
	for _, name := range names {
		list = append(list, drift.ObjectState{Ref: core.ObjectRef{Kind: "ConfigMap", Name: name}, Drift: drift.Modified})
	}
	return list
}

// mended are the results of having put them right.
func mended(list []drift.ObjectState) []deploy.ObjectResult {
	var results []deploy.ObjectResult
	for _, s := range list {
		results = append(results, deploy.ObjectResult{Ref: s.Ref, Action: deploy.Configured})
	}
	return results
}

// What is changed back at once is a fight after the third heal, is healed at
// the pace of the back-off, and does not hold up other objects.
func TestFights(t *testing.T) {
	shown, at := 0, time.Unix(0, 0)
	f := &fights{count: func(n int) { shown += n }}
	for i, want := range []time.Duration{0, 2, 6, 18, 54, 162, 300, 300} {
		due, next := f.due(drifts("a"), at)
		if want *= time.Second; want > 0 && (len(due) > 0 || next != want) {
			t.Fatalf("heal %d: %v are due, the next in %s, want %s", i, due, next, want)
		}
		at = at.Add(want)
		if due, _ = f.due(drifts("a", "b"), at); len(due) != 2 {
			t.Fatalf("heal %d: %v are due", i, due)
		}
		begun := f.healed(drifts("a"), mended(drifts("a")), at)
		if (len(begun) > 0) != (i == fightRow-1) {
			t.Errorf("heal %d: fights that have begun: %v", i, begun)
		}
		f.due(nil, at) // in sync for no time
	}
	if got := f.shown(); len(got) != 1 || got[0].Name != "a" || shown != 1 {
		t.Errorf("fights: %v, counted %d", got, shown)
	}
	if over, next := f.ended(at.Add(fightMemory - time.Second)); len(over) > 0 || next != time.Second {
		t.Errorf("over too early: %v, next in %s", over, next)
	}
	if over, _ := f.ended(at.Add(fightMemory)); len(over) != 1 || shown != 0 || f.describe() != "" {
		t.Errorf("not over: %v, %d, %s", over, shown, f.describe())
	}
}

// A heal that fails is no fight, and is tried again more and more seldom.
func TestFailedHeals(t *testing.T) {
	f, at := &fights{}, time.Unix(0, 0)
	for range 50 {
		_, next := f.due(drifts("a"), at)
		at = at.Add(next)
		f.healed(drifts("a"), []deploy.ObjectResult{{Ref: drifts("a")[0].Ref, Action: deploy.Failed}}, at)
	}
	if _, next := f.due(drifts("a"), at); len(f.shown()) > 0 || next != healMax {
		t.Errorf("fights %v, the next try in %s", f.shown(), next)
	}
}

// Who takes his time is shown, and is slowed down when he goes on.
func TestSlowFights(t *testing.T) {
	f, at := &fights{}, time.Unix(0, 0)
	for i := range fightSlowed {
		due, _ := f.due(drifts("a"), at)
		if len(due) != 1 {
			t.Fatalf("heal %d has to wait", i)
		}
		if begun := f.healed(due, mended(due), at); (len(begun) > 0) != (i == fightShown-1) {
			t.Errorf("heal %d: fights that have begun: %v", i, begun)
		}
		f.due(nil, at)
		at = at.Add(5 * time.Second)
	}
	var pauses []time.Duration
	for range 4 {
		_, next := f.due(drifts("a"), at)
		pauses = append(pauses, next)
		at = at.Add(next)
		f.healed(drifts("a"), mended(drifts("a")), at)
		f.due(nil, at)
		at = at.Add(time.Second)
	}
	if got := fmt.Sprint(pauses); got != "[0s 5s 17s 53s]" {
		t.Errorf("pauses are %s", got)
	}
}

// fight writes the ConfigMap's key whenever it is not what it wants, as a
// controller does, until ctx ends.
func (h *house) fight(ctx context.Context, namespace, name, value string) error {
	c, err := client.NewWithWatch(cluster.Config, client.Options{Scheme: testScheme(h.t)})
	if err != nil {
		return err
	}
	list := &unstructured.UnstructuredList{}
	list.SetAPIVersion("v1")
	list.SetKind("ConfigMapList")
	for ctx.Err() == nil {
		w, err := c.Watch(ctx, list, client.InNamespace(namespace), client.MatchingFields{"metadata.name": name})
		if err != nil {
			return client.IgnoreNotFound(err)
		}
		for e := range w.ResultChan() {
			u, ok := e.Object.(*unstructured.Unstructured)
			if !ok || e.Type == watch.Deleted || field(value, "data", "key")(u) == nil {
				continue
			}
			patch := client.RawPatch(types.MergePatchType, []byte(fmt.Sprintf(`{"data":{"key":%q}}`, value)))
			if err := c.Patch(ctx, u, patch, client.FieldOwner("rival-controller")); err != nil && ctx.Err() == nil {
				return err
			}
		}
		w.Stop()
	}
	return nil
}

// A controller that wants another value is shown, by name and field; the other
// objects of the delivery are healed at once all the same.
func TestFightingController(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	h.repo("fight", map[string]string{"app/a.yaml": configMap("a", "git"), "app/b.yaml": configMap("b", "git")})
	h.apply(h.application("fight", "fight", "app", "fight", automated))
	defer h.delete(appObject("fight"))
	h.waitApp("fight", "to be synced", synced)
	h.namespace("fight-k")
	h.apply(h.fluxPair("fight-k", "fight", "fight", "./app", "  targetNamespace: fight-k\n"))
	defer h.dropFlux("fight-k", "fight")
	h.waitLive("v1", "ConfigMap", "fight-k", "a", nil)

	for _, ns := range []string{"fight", "fight-k"} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- h.fight(ctx, ns, "a", "rival") }()
		defer func() {
			cancel()
			if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}()
	}
	wants := func(text string) bool {
		return strings.Contains(text, "ConfigMap fight") && strings.Contains(text, `field manager "rival-controller" writes .data.key`) && !strings.Contains(text, "/b ")
	}
	h.waitApp("fight", "to say who fights", func(a *argo.Application) bool { return wants(fighting(a)) })
	h.kustomization("fight-k", "fight", "to say who fights", func(k *kustomizev1.Kustomization) bool {
		c := apimeta.FindStatusCondition(k.Status.Conditions, reasonFighting)
		return c != nil && wants(c.Message)
	})
	for _, ns := range []string{"fight", "fight-k"} {
		b := h.waitLive("v1", "ConfigMap", ns, "b", nil)
		if err := h.kube.Patch(t.Context(), b, client.RawPatch(types.MergePatchType, []byte(`{"data":{"key":"by-hand"}}`)), client.FieldOwner("kubectl-edit")); err != nil {
			t.Fatal(err)
		}
		h.waitLive("v1", "ConfigMap", ns, "b", field("git", "data", "key"))
	}
	for ns, kind := range map[string]string{"argocd": argo.ApplicationKind, "fight-k": kustomizev1.KustomizationKind} {
		testkit.Eventually(t, "an event of the "+kind, func() error { return h.eventSays(kind, ns, "fight", reasonFighting, "rival-controller") })
	}
	if got := metric(t, "fairway_fighting_objects"); got != 2 {
		t.Errorf("%v objects are counted as fought over, want 2", got)
	}
}

// metric is the sum of a metric's values.
func metric(t *testing.T, name string) float64 {
	t.Helper()
	families, err := metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, family := range families {
		if family.GetName() == name {
			for _, m := range family.GetMetric() {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// eventSays wants an event of an object with this reason and text.
func (h *house) eventSays(kind, namespace, name, reason, text string) error {
	list, err := cluster.Client.EventsV1().Events(namespace).List(h.t.Context(), listAll)
	if err != nil {
		return err
	}
	for _, e := range list.Items {
		if e.Regarding.Kind == kind && e.Regarding.Name == name && e.Reason == reason && strings.Contains(e.Note, text) {
			return nil
		}
	}
	return errors.New("there is none")
}

// A webhook that answers each write otherwise has no name in the managed
// fields; that is said, and it is backed off from.
func TestFightingAdmission(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	h.namespace("mutated")
	restless(t)
	testkit.Eventually(t, "the webhook to be called", func() error {
		h.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: probe, namespace: mutated, labels: {restless: 'yes'}}\ndata: {key: x}\n")
		u, err := h.live("v1", "ConfigMap", "mutated", "probe")
		if err == nil && field("x", "data", "key")(u) == nil {
			err = errors.New("it is not")
		}
		return err
	})
	manifest := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: restless, labels: {restless: 'yes'}}\ndata: {key: git}\n"
	h.repo("mutated", map[string]string{"app/a.yaml": manifest, "app/b.yaml": configMap("b", "git")})
	h.apply(h.application("mutated", "mutated", "app", "mutated", automated))
	defer h.delete(appObject("mutated"))
	h.waitApp("mutated", "to say that it is an admission", func(a *argo.Application) bool {
		message := fighting(a)
		return strings.Contains(message, "ConfigMap mutated/restless") && strings.Contains(message, ".data.key comes out otherwise") && strings.Contains(message, "admission webhook or policy")
	})
	b := h.waitLive("v1", "ConfigMap", "mutated", "b", nil)
	if err := h.kube.Delete(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	h.waitLive("v1", "ConfigMap", "mutated", "b", field("git", "data", "key"))
}

// fighting is what the Application says of its fights.
func fighting(a *argo.Application) string {
	for _, c := range a.Status.Conditions {
		if c.Type == argo.ConditionFightingWarning {
			return c.Message
		}
	}
	return ""
}

// restless has a webhook give another value to restless ConfigMaps at each
// write, until the test ends.
func restless(t *testing.T) {
	t.Helper()
	var calls atomic.Int64
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		kind := admissionv1.PatchTypeJSONPatch
		review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true, PatchType: &kind,
			Patch: fmt.Appendf(nil, `[{"op":"replace","path":"/data/key","value":"answer %d"}]`, calls.Add(1))}
		review.Request = nil
		_ = json.NewEncoder(w).Encode(review)
	}))
	t.Cleanup(server.Close)
	none, fail, equivalent := admissionregistrationv1.SideEffectClassNone, admissionregistrationv1.Fail, admissionregistrationv1.Equivalent
	hook := &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "restless"},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name: "restless.example.com", AdmissionReviewVersions: []string{"v1"}, SideEffects: &none, FailurePolicy: &fail, MatchPolicy: &equivalent,
			ClientConfig: admissionregistrationv1.WebhookClientConfig{URL: &server.URL,
				CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})},
			ObjectSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"restless": "yes"}},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}},
			}},
		}},
	}
	hooks := cluster.Client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	if _, err := hooks.Create(t.Context(), hook, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := hooks.Delete(context.Background(), hook.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
}
