package deploy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/kube"
)

// definitionTimeout is how long the API server may take to serve a kind whose
// definition it has accepted; it takes milliseconds, or 5 s where there are
// several API servers.
const definitionTimeout = 30 * time.Second

// awaitDefinitions waits until the kinds that were just defined are served, so
// that their objects can follow.
func (c *Cluster) awaitDefinitions(ctx context.Context, items []*item) error {
	var list []awaited
	var gvks []schema.GroupVersionKind
	for _, it := range items {
		if !isDefinition(it.obj) || it.live == nil || it.verdict != create && it.verdict != configure {
			continue
		}
		list = append(list, awaitedOf(it.live))
		gvks = append(gvks, servedKind(it.obj))
	}
	if len(list) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, definitionTimeout, errWaited)
	defer cancel()
	established := *c
	established.health = func(_ core.Dialect, o *unstructured.Unstructured) (core.Health, string) {
		conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
		for _, cond := range conditions {
			if m, ok := cond.(map[string]any); ok && m["type"] == "Established" && m["status"] == "True" {
				return core.Healthy, ""
			}
		}
		return core.Progressing, ""
	}
	err := established.await(ctx, "", list, nil, func(states []state) bool {
		for _, s := range states {
			if s.health != core.Healthy {
				return false
			}
		}
		return true
	})
	for i := 0; err == nil && i < len(gvks); i++ {
		err = c.awaitDiscovery(ctx, gvks[i])
	}
	if errors.Is(err, errWaited) || errors.Is(err, context.DeadlineExceeded) {
		return &PlanError{Applied: true, Objects: []*ObjectError{{
			Ref: list[0].ref, Op: "wait for", Reason: Timeout,
			Err: fmt.Errorf("the kind is not served after %s", definitionTimeout),
		}}}
	}
	return err
}

// awaitDiscovery asks for the kind until it is listed. There is nothing to
// watch: discovery follows the definition's condition by some milliseconds.
func (c *Cluster) awaitDiscovery(ctx context.Context, gvk schema.GroupVersionKind) error {
	return wait.PollUntilContextCancel(ctx, 20*time.Millisecond, true, func(context.Context) (bool, error) {
		_, err := c.client.Mapping(gvk)
		if kube.IsMissingKind(err) {
			return false, nil
		}
		return err == nil, err
	})
}

// servedKind is a definition's kind in one of its served versions.
func servedKind(crd *unstructured.Unstructured) schema.GroupVersionKind {
	var gvk schema.GroupVersionKind
	gvk.Group, _, _ = unstructured.NestedString(crd.Object, "spec", "group")
	gvk.Kind, _, _ = unstructured.NestedString(crd.Object, "spec", "names", "kind")
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	for _, v := range versions {
		if m, ok := v.(map[string]any); ok && m["served"] == true {
			gvk.Version, _ = m["name"].(string)
		}
	}
	return gvk
}
