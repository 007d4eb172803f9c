package deploy

import (
	"context"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/fairway-cd/fairway/internal/kube"
)

// definitionTimeout is how long the API server may take to serve a kind whose
// definition it has accepted; it takes milliseconds, or 5 s where there are
// several API servers.
const definitionTimeout = 30 * time.Second

// awaitDefinitions waits until the kinds that were just defined are served, so
// that their objects can follow. It is the one wait that holds its caller:
// what it waits for the API server does by itself, and at once.
func (r *run) awaitDefinitions(ctx context.Context, items []*item, results []ObjectResult) error {
	for i, it := range items {
		if !isDefinition(it.obj) || it.live == nil || it.err != nil || it.waits != nil || r.plan.Options.DryRun ||
			it.verdict != create && it.verdict != configure {
			continue
		}
		if err := r.awaitServed(ctx, it); err != nil {
			return err
		}
		it.health, it.message = r.health(r.plan.Owner, it.live)
		results[i].Live, results[i].Health, results[i].Message = it.live, it.health, it.message
	}
	return nil
}

func (c *Cluster) awaitServed(ctx context.Context, it *item) error {
	bounded, cancel := context.WithTimeout(ctx, definitionTimeout)
	defer cancel()
	err := c.awaitEstablished(bounded, it)
	if err == nil {
		err = c.awaitDiscovery(bounded, servedKind(it.obj))
	}
	if err != nil && ctx.Err() == nil && bounded.Err() != nil {
		return &PlanError{Applied: true, Objects: []*ObjectError{{
			Ref: it.ref, Op: "wait for", Reason: Timeout,
			Err: fmt.Errorf("the kind is not served after %s", definitionTimeout),
		}}}
	}
	return err
}

// awaitEstablished asks for the definition until it says that it is served.
func (c *Cluster) awaitEstablished(ctx context.Context, it *item) error {
	if established(it.live) {
		return nil
	}
	return wait.PollUntilContextCancel(ctx, 20*time.Millisecond, false, func(ctx context.Context) (bool, error) {
		live, err := c.get(ctx, it.ref)
		if live != nil {
			it.live = live
		}
		return live != nil && established(live), err
	})
}

func established(crd *unstructured.Unstructured) bool {
	conditions, _, _ := unstructured.NestedSlice(crd.Object, "status", "conditions")
	return slices.ContainsFunc(conditions, func(c any) bool {
		m, ok := c.(map[string]any)
		return ok && m["type"] == "Established" && m["status"] == "True"
	})
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
