package drift

import (
	"context"
	"log/slog"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-cd/fairway/internal/kube"
	"github.com/fairway-cd/fairway/internal/mark"
)

// resyncs lists everything from time to time. It trusts no watch, and finds
// nothing while they work.
func (c *Cluster) resyncs(ctx context.Context) error {
	for pause(ctx, c.resync) {
		c.mu.Lock()
		var kinds []*kind
		for _, k := range c.kinds {
			if k.synced {
				kinds = append(kinds, k)
			}
		}
		c.mu.Unlock()
		for _, k := range kinds {
			if err := c.resyncKind(ctx, k); err != nil && ctx.Err() == nil {
				slog.WarnContext(ctx, "the safety resync failed", "group", k.ref.Group, "kind", k.ref.Kind, "error", err)
			}
		}
	}
	return ctx.Err()
}

// resyncKind asks again for what a list shows newer than the watch does even
// after a while, and for what the list does not show at all.
func (c *Cluster) resyncKind(ctx context.Context, k *kind) error {
	listed, err := c.versions(ctx, k)
	if err != nil {
		return err
	}
	behind := k.behind(listed)
	if len(behind) == 0 || !pause(ctx, c.grace) {
		return nil
	}
	still := k.behind(listed)
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range behind {
		if still[key] {
			c.missed(k.key(key))
			k.confirm(key)
		}
	}
	return nil
}

// versions lists the resource versions of the kind's objects, page by page.
// Only metadata are asked for.
func (c *Cluster) versions(ctx context.Context, k *kind) (map[kube.Key]uint64, error) {
	m, err := c.client.Mapping(k.ref.GroupVersionKind())
	if err != nil {
		return nil, err
	}
	found := map[kube.Key]uint64{}
	for _, namespace := range c.client.Namespaces(m) {
		opts := metav1.ListOptions{LabelSelector: mark.Selector, Limit: 500}
		for more := true; more; more = opts.Continue != "" {
			list, err := c.client.Metadata(m, namespace).List(ctx, opts)
			if err != nil {
				return nil, err
			}
			for i := range list.Items {
				o := &list.Items[i]
				v, _ := strconv.ParseUint(o.ResourceVersion, 10, 64)
				found[kube.Key{Namespace: o.Namespace, Name: o.Name}] = v
			}
			opts.Continue = list.Continue
		}
	}
	return found, nil
}

// behind returns where the watch shows less than the list. What was unlabelled
// by hand is in no list, and known to be so.
func (k *kind) behind(listed map[kube.Key]uint64) map[kube.Key]bool {
	k.cluster.mu.Lock()
	defer k.cluster.mu.Unlock()
	late := map[kube.Key]bool{}
	for key, version := range listed {
		if p := k.objects[key]; p == nil || p.version < version {
			late[key] = true
		}
	}
	for key, p := range k.objects {
		if _, ok := listed[key]; !ok && p.drift == None {
			late[key] = true
		}
	}
	return late
}
