package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// What the rig delivers: an Application with waves and hooks from the embedded
// Git server, a Kustomization from the external one, and a HelmRelease of a
// chart there.
const (
	faultApp   = "faulty-app"
	faultFlux  = "faulty-flux"
	faultChart = "faulty-chart"
)

// desired are the files of a version: what stays, with another value, and one
// object that only this version has.
func desired(version int) (embedded, external map[string]string) {
	value := fmt.Sprintf("v%d", version)
	embedded = map[string]string{
		"app/before.yaml": hookJob("before", "PreSync"),
		"app/after.yaml":  hookJob("after", "PostSync"),
		"app/only.yaml":   configMap("only-"+value, value),
		"app/web.yaml":    deployment("web", 1),
	}
	external = map[string]string{
		"flux/only.yaml":            configMap("only-"+value, value),
		"flux/web.yaml":             deployment("web", 1),
		"chart/Chart.yaml":          fmt.Sprintf("apiVersion: v2\nname: faulty\nversion: 1.0.%d\n", version),
		"chart/templates/cm.yaml":   configMap("stays", value),
		"chart/templates/only.yaml": configMap("only-"+value, value),
	}
	for n := range 20 {
		name := fmt.Sprintf("m-%02d", n)
		embedded["app/"+name+".yaml"] = strings.Replace(configMap(name, value), "  name: "+name+"\n",
			fmt.Sprintf("  name: %s\n  annotations: {argocd.argoproj.io/sync-wave: '%d'}\n", name, n/10), 1)
		external["flux/"+name+".yaml"] = configMap(name, value)
	}
	return embedded, external
}

// wantedObjects are those of a version, by delivery, with their value; "" is
// not looked at.
func wantedObjects(version int) map[string]map[string]string {
	value := fmt.Sprintf("v%d", version)
	common := map[string]string{"Deployment web": "", "ConfigMap only-" + value: value}
	for n := range 20 {
		common[fmt.Sprintf("ConfigMap m-%02d", n)] = value
	}
	return map[string]map[string]string{
		faultApp: common, faultFlux: common,
		faultChart: {"ConfigMap stays": value, "ConfigMap only-" + value: value},
	}
}

// deliver makes the deliveries, and waits for them.
func (r *faultRig) deliver(t *testing.T) {
	t.Helper()
	embedded, external := desired(0)
	r.work[faultApp] = r.repository(t, faultApp, embedded)
	r.external(t, faultFlux, external)
	r.kubectl(t, "create", "namespace", faultFlux)
	r.kubectl(t, "create", "namespace", faultChart)
	r.apply(t, application(faultApp, strings.TrimSuffix(r.status(t).UIURL, "/")+"/git/"+faultApp+".git", "app", faultApp))
	r.apply(t, strings.ReplaceAll(flux(faultFlux, faultFlux, r.git.URL+"/"+faultFlux+".git", "./flux", "  wait: true\n  retryInterval: 1s\n"), "interval: 1h, url", "interval: 1s, url"))
	r.apply(t, fmt.Sprintf(`apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: %[1]s, namespace: default}
spec:
  interval: 1h
  releaseName: faulty
  targetNamespace: %[1]s
  storageNamespace: %[1]s
  install: {remediation: {retries: -1}}
  upgrade: {remediation: {retries: -1}}
  driftDetection: {mode: enabled}
  chart: {spec: {chart: ./chart, interval: 1s, reconcileStrategy: Revision, sourceRef: {kind: GitRepository, name: %[2]s}}}
`, faultChart, faultFlux))
	r.converged(t, "the first delivery")
}

// change pushes the next version to both Git servers. The embedded one refuses
// while the API server cannot say who pushes; converged tries again.
func (r *faultRig) change(t *testing.T) {
	t.Helper()
	r.version++
	embedded, external := desired(r.version)
	r.push(t, r.work[faultFlux], external)
	r.commit(t, r.work[faultApp], embedded)
	_ = r.pushed(t.Context())
}

// pushed brings what was committed to the embedded Git server.
func (r *faultRig) pushed(ctx context.Context) error {
	_, err := r.exec(ctx, r.work[faultApp], "git", "push", "-q", "origin", "HEAD")
	return err
}

// drift changes one live object of each delivery, and deletes another: others
// each time, since it is no fight.
func (r *faultRig) drift(t *testing.T) {
	t.Helper()
	changed, deleted := fmt.Sprintf("m-%02d", r.version%10), fmt.Sprintf("m-%02d", 10+r.version%10)
	for ns, name := range map[string]string{faultApp: changed, faultFlux: changed, faultChart: "stays"} {
		r.kubectl(t, "patch", "configmap", name, "-n", ns, "--type=merge", "-p", `{"data":{"key":"drifted"}}`)
	}
	r.kubectl(t, "delete", "configmap", deleted, "-n", faultApp)
	r.kubectl(t, "delete", "configmap", deleted, "-n", faultFlux)
}

// differences compares what Git has with what is live, with what is marked as
// delivered, and with the inventories, both ways.
func (r *faultRig) differences(ctx context.Context) (lost, orphaned []string, err error) {
	for delivery, want := range wantedObjects(r.version) {
		live, err := r.live(ctx, delivery)
		if err != nil {
			return nil, nil, err
		}
		inventory, err := r.inventory(ctx, delivery)
		if err != nil {
			return nil, nil, err
		}
		for _, name := range slices.Sorted(maps.Keys(want)) {
			have, there := live[name]
			switch {
			case !there:
				lost = append(lost, delivery+": "+name+" is not there")
			case want[name] != "" && have != want[name]:
				lost = append(lost, fmt.Sprintf("%s: %s has %q, want %q", delivery, name, have, want[name]))
			case !inventory[name]:
				lost = append(lost, delivery+": "+name+" is not in the inventory")
			}
		}
		for _, name := range slices.Sorted(maps.Keys(live)) {
			if _, wanted := want[name]; !wanted {
				orphaned = append(orphaned, delivery+": "+name+" is there")
			}
		}
		for _, name := range slices.Sorted(maps.Keys(inventory)) {
			if _, wanted := want[name]; !wanted {
				orphaned = append(orphaned, delivery+": "+name+" is in the inventory")
			}
		}
	}
	return lost, orphaned, nil
}

// live are all objects of the kinds that are delivered which are marked as the
// delivery's, wherever they are, with their value. Hooks are not part of it.
func (r *faultRig) live(ctx context.Context, delivery string) (map[string]string, error) {
	found := map[string]string{}
	for _, gvr := range []schema.GroupVersionResource{{Version: "v1", Resource: "configmaps"}, {Group: "apps", Version: "v1", Resource: "deployments"}, {Version: "v1", Resource: "services"}} {
		list, err := r.direct.Resource(gvr).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, err
		}
		for i := range list.Items {
			o := &list.Items[i]
			if markedAs(o) == delivery {
				value, _, _ := unstructured.NestedString(o.Object, "data", "key")
				found[o.GetKind()+" "+o.GetName()] = value
			}
		}
	}
	return found, nil
}

// markedAs is the delivery of the rig that an object says it is of.
func markedAs(o *unstructured.Unstructured) string {
	if name := o.GetLabels()["kustomize.toolkit.fluxcd.io/name"]; name != "" {
		return name
	}
	if o.GetAnnotations()["meta.helm.sh/release-name"] != "" {
		return faultChart
	}
	name, _, _ := strings.Cut(o.GetAnnotations()["argocd.argoproj.io/tracking-id"], ":")
	return name
}

var faultKinds = map[string]struct {
	gvr       schema.GroupVersionResource
	namespace string
}{
	faultApp:   {schema.GroupVersionResource{Group: "argoproj.io", Version: "v1alpha1", Resource: "applications"}, "argocd"},
	faultFlux:  {schema.GroupVersionResource{Group: "kustomize.toolkit.fluxcd.io", Version: "v1", Resource: "kustomizations"}, "default"},
	faultChart: {schema.GroupVersionResource{Group: "helm.toolkit.fluxcd.io", Version: "v2", Resource: "helmreleases"}, "default"},
}

// inventory is what the delivery's status has.
func (r *faultRig) inventory(ctx context.Context, delivery string) (map[string]bool, error) {
	kind := faultKinds[delivery]
	u, err := r.direct.Resource(kind.gvr).Namespace(kind.namespace).Get(ctx, delivery, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(u.Object["status"])
	if err != nil {
		return nil, err
	}
	var status struct {
		Resources []struct{ Kind, Name string }
		Inventory struct{ Entries []struct{ ID string } }
	}
	if err := json.Unmarshal(data, &status); err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, o := range status.Resources {
		found[o.Kind+" "+o.Name] = true
	}
	for _, e := range status.Inventory.Entries {
		if parts := strings.Split(e.ID, "_"); len(parts) == 4 {
			found[parts[3]+" "+parts[1]] = true
		}
	}
	return found, nil
}

// unsettled is what a delivery says of itself that is not well.
func (r *faultRig) unsettled(ctx context.Context) (string, error) {
	for delivery, kind := range faultKinds {
		u, err := r.direct.Resource(kind.gvr).Namespace(kind.namespace).Get(ctx, delivery, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		if delivery == faultApp {
			sync, _, _ := unstructured.NestedString(u.Object, "status", "sync", "status")
			health, _, _ := unstructured.NestedString(u.Object, "status", "health", "status")
			conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
			if _, operates := u.Object["operation"]; operates || sync != "Synced" || health != "Healthy" || len(conditions) > 0 {
				return fmt.Sprintf("%s is %s %s, operates %v: %v", delivery, sync, health, operates, conditions), nil
			}
			continue
		}
		conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
		ready := false
		for _, c := range conditions {
			m, _ := c.(map[string]any)
			ready = ready || m["type"] == "Ready" && m["status"] == "True"
		}
		if !ready {
			return fmt.Sprintf("%s is not ready: %v", delivery, conditions), nil
		}
	}
	return "", nil
}
