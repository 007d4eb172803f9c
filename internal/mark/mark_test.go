package mark_test

import (
	"encoding/json"
	"reflect"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/mark"
)

var tracking = mark.Tracking{ArgoNamespace: "argocd"}

func TestTracking(t *testing.T) {
	for _, c := range []struct {
		owner core.Owner
		obj   string
		want  string
	}{
		{app("argocd", "shop"), `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"prod"}}`, "shop:apps/Deployment:prod/web"},
		{app("team-a", "shop"), `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m","namespace":"prod"}}`, "team-a_shop:/ConfigMap:prod/m"},
		// What has no namespace is tracked under the delivery's, as Argo CD does.
		{app("argocd", "shop"), `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"prod"}}`, "shop:/Namespace:dest/prod"},
	} {
		obj := object(t, c.obj)
		tracking.Write(obj, c.owner, "dest")
		if got := obj.GetAnnotations()["argocd.argoproj.io/tracking-id"]; got != c.want {
			t.Errorf("tracking is %q, want %q", got, c.want)
		}
		if got := tracking.Read(obj); !reflect.DeepEqual(got, []core.Owner{c.owner}) {
			t.Errorf("read back: %v", got)
		}
	}
	flux := core.Owner{Dialect: core.Flux, Kind: "Kustomization", Namespace: "flux-system", Name: "apps"}
	obj := object(t, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m","namespace":"prod"}}`)
	tracking.Write(obj, flux, "")
	tracking.Write(obj, app("argocd", "shop"), "")
	if got := tracking.Read(obj); len(got) != 2 || !tracking.Tracks(flux, obj) {
		t.Errorf("tracked by both: %v", got)
	}
	// A controller copied the annotations to a child.
	obj.SetName("child")
	if got := tracking.Read(obj); !reflect.DeepEqual(got, []core.Owner{flux}) {
		t.Errorf("a copied annotation tracks: %v", got)
	}
	// And one that copies Secrets from namespace to namespace keeps the name.
	obj.SetName("m")
	obj.SetNamespace("dev")
	if got := tracking.Read(obj); !reflect.DeepEqual(got, []core.Owner{flux}) {
		t.Errorf("a copy in another namespace is tracked: %v", got)
	}
}

const live = `{"apiVersion":"apps/v1","kind":"Deployment",
 "metadata":{"name":"web","annotations":{"fairway-cd.io/applied":"x.y","theirs":"z"},"managedFields":[
  {"manager":"fairway","operation":"Apply","time":"2026-01-01T00:00:00Z","fieldsV1":{"f:metadata":{"f:annotations":{"f:fairway-cd.io/applied":{}}},
   "f:spec":{"f:replicas":{},"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{},
     "f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}}}}}}},
  {"manager":"other","operation":"Update","time":"2026-01-01T00:00:01Z","fieldsV1":{"f:spec":{"f:paused":{}}}},
  {"manager":"kcm","operation":"Update","subresource":"status","time":"2026-01-01T00:00:02Z","fieldsV1":{"f:status":{}}}]},
 "spec":{"replicas":2,"paused":false,"template":{"spec":{"containers":[{"name":"side","image":"s"},{"name":"c","image":"i:1","ports":[{"containerPort":80}]}]}}}}`

func TestOwned(t *testing.T) {
	want := mark.Owned(object(t, live), mark.Ignored{})
	if want == "" {
		t.Fatal("nothing is owned")
	}
	for name, c := range map[string]struct {
		change func(*unstructured.Unstructured)
		same   bool
	}{
		"status":             {set("x", "status", "phase"), true},
		"a field of theirs":  {set(true, "spec", "paused"), true},
		"their annotation":   {set("new", "metadata", "annotations", "theirs"), true},
		"the evidence":       {set("new", "metadata", "annotations", mark.AnnotationApplied), true},
		"a field of ours":    {set(int64(3), "spec", "replicas"), false},
		"our field is gone":  {func(o *unstructured.Unstructured) { unstructured.RemoveNestedField(o.Object, "spec", "replicas") }, false},
		"an element's place": {swap, true},
		"an element's field": {func(o *unstructured.Unstructured) {
			container(o, 1)["image"] = "i:2"
		}, false},
		"another element's field": {func(o *unstructured.Unstructured) { container(o, 0)["image"] = "new" }, true},
		"a field was taken from us": {func(o *unstructured.Unstructured) {
			fields := o.Object["metadata"].(map[string]any)["managedFields"].([]any)[0].(map[string]any)["fieldsV1"].(map[string]any)
			delete(fields["f:spec"].(map[string]any), "f:replicas")
		}, false},
	} {
		obj := object(t, live)
		c.change(obj)
		if got := mark.Owned(obj, mark.Ignored{}); (got == want) != c.same {
			t.Errorf("%s: same is %v", name, got == want)
		}
	}
	ignored := mark.Ignored{Pointers: []string{"/spec/replicas", "/spec/template/spec/containers/1/ports"}}
	obj := object(t, live)
	before := mark.Owned(obj, ignored)
	set(int64(7), "spec", "replicas")(obj)
	container(obj, 1)["ports"] = []any{map[string]any{"containerPort": int64(80), "protocol": "UDP"}}
	if before == want || mark.Owned(obj, ignored) != before {
		t.Error("what is ignored counts")
	}
}

func TestIntact(t *testing.T) {
	obj := object(t, live)
	ignored := mark.Ignored{Managers: []string{"autoscaler"}}
	ignored.Write(obj)
	mark.Applied{Digest: "d", Owned: mark.Owned(obj, ignored)}.Write(obj)
	if !mark.Intact(obj) {
		t.Fatal("what was just marked is not intact")
	}
	set(int64(3), "spec", "replicas")(obj)
	if mark.Intact(obj) || mark.LastManager(obj) != "other" {
		t.Errorf("what %q changed is intact", mark.LastManager(obj))
	}
	fields := obj.Object["metadata"].(map[string]any)["managedFields"].([]any)
	theirs := fields[1].(map[string]any)
	theirs["manager"] = "autoscaler"
	if mark.Intact(obj) {
		t.Error("what an ignored manager does not own is intact")
	}
	ours := fields[0].(map[string]any)["fieldsV1"].(map[string]any)["f:spec"].(map[string]any)
	delete(ours, "f:replicas")
	theirs["fieldsV1"].(map[string]any)["f:spec"].(map[string]any)["f:replicas"] = map[string]any{}
	if !mark.Intact(obj) {
		t.Error("what an ignored manager took over is not intact")
	}
	// Somebody removes another field: nobody owns that then, and the ignored
	// manager is still the last one to be seen.
	delete(ours["f:template"].(map[string]any)["f:spec"].(map[string]any)["f:containers"].(map[string]any)[`k:{"name":"c"}`].(map[string]any), "f:image")
	delete(container(obj, 1), "image")
	if mark.Intact(obj) {
		t.Error("a field is gone, and the object is intact")
	}
}

func TestDigest(t *testing.T) {
	obj := object(t, live)
	want := mark.Digest(obj)
	mark.Applied{Digest: "1", Owned: "2"}.Write(obj)
	if mark.Digest(obj) != want {
		t.Error("the evidence is part of the digest")
	}
	set(int64(3), "spec", "replicas")(obj)
	if mark.Digest(obj) == want {
		t.Error("a change is not part of the digest")
	}
}

func TestPredecessor(t *testing.T) {
	for _, c := range []struct {
		manager, operation string
		argo, flux         bool
	}{
		{"kubectl-client-side-apply", "Update", true, true}, {"kubectl", "Apply", true, true},
		{"before-first-apply", "Update", true, true}, {"kustomize-controller", "Apply", true, true},
		{"argocd-controller", "Update", true, true}, {"kubectl-edit", "Update", false, true},
		{"kubectl", "Update", false, true}, {"kube-controller-manager", "Update", false, false},
		{"flux-client-side-apply", "Update", false, false},
	} {
		if got := mark.Predecessor(core.ArgoCD, c.manager, c.operation, ""); got != c.argo {
			t.Errorf("Argo CD takes from %s (%s): %v", c.manager, c.operation, got)
		}
		if got := mark.Predecessor(core.Flux, c.manager, c.operation, ""); got != c.flux {
			t.Errorf("Flux takes from %s (%s): %v", c.manager, c.operation, got)
		}
		if mark.Predecessor(core.Flux, c.manager, c.operation, "scale") {
			t.Errorf("a subresource of %s is taken", c.manager)
		}
	}
}

// Whatever is written into an object's metadata, reading it neither fails nor
// depends on anything but the object.
func FuzzRead(f *testing.F) {
	f.Add([]byte(live))
	f.Add([]byte(`{"metadata":{"managedFields":[{"manager":"fairway","fieldsV1":{"i:0":{},"v:1":{},"k:{":{},"f:":{"f:~/":{}}}}]}}`))
	f.Add([]byte(`{"metadata":{"managedFields":[1,{"manager":"fairway","fieldsV1":{"f:a":7}}],"annotations":{"fairway-cd.io/applied":"a.b","fairway-cd.io/ignored":"{}","argocd.argoproj.io/tracking-id":"a_b:/K:n/"}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		obj := &unstructured.Unstructured{}
		if json.Unmarshal(b, &obj.Object) != nil || obj.Object == nil {
			return
		}
		ignored := mark.ReadIgnored(obj)
		if a, b := mark.Owned(obj, ignored), mark.Owned(obj.DeepCopy(), ignored); a != b {
			t.Errorf("two hashes of one object: %s, %s", a, b)
		}
		mark.Intact(obj)
		mark.HasPredecessor(core.Flux, obj)
		mark.OwnedPointers(obj, mark.FieldManager)
		for _, o := range tracking.Read(obj) {
			if o.Name == "" || o.Namespace == "" {
				t.Errorf("an owner without a name: %+v", o)
			}
		}
	})
}

func app(namespace, name string) core.Owner {
	return core.Owner{Dialect: core.ArgoCD, Kind: "Application", Namespace: namespace, Name: name}
}

func object(t *testing.T, s string) *unstructured.Unstructured {
	t.Helper()
	obj := &unstructured.Unstructured{}
	if err := obj.UnmarshalJSON([]byte(s)); err != nil {
		t.Fatal(err)
	}
	return obj
}

func set(v any, path ...string) func(*unstructured.Unstructured) {
	return func(o *unstructured.Unstructured) { _ = unstructured.SetNestedField(o.Object, v, path...) }
}

func containers(o *unstructured.Unstructured) []any {
	v, _, _ := unstructured.NestedFieldNoCopy(o.Object, "spec", "template", "spec", "containers")
	return v.([]any)
}

func container(o *unstructured.Unstructured, i int) map[string]any {
	return containers(o)[i].(map[string]any)
}

func swap(o *unstructured.Unstructured) {
	c := containers(o)
	c[0], c[1] = c[1], c[0]
}
