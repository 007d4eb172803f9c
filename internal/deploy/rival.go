package deploy

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/kube"
)

// rival returns the other delivery that has the object, if there is one from
// which owner may not take it.
//
// Two Applications: the first one keeps it (Argo CD warns with a
// SharedResourceWarning; what it then does depends on who synced last). Two
// Kustomizations: the last one takes it over, with its labels, and the first
// one's prune no longer finds it, as in Flux. One of each: the first one
// keeps it. A delivery that is gone has nothing, whatever the object says.
func (c *Cluster) rival(ctx context.Context, owner core.Owner, live *unstructured.Unstructured) (core.Owner, bool, error) {
	owners := c.tracking.Read(live)
	for _, o := range owners {
		if o == owner {
			return core.Owner{}, false, nil
		}
	}
	for _, o := range owners {
		if o.Dialect == core.Flux && owner.Dialect == core.Flux {
			continue
		}
		lives, err := c.lives(ctx, o)
		if err != nil {
			return core.Owner{}, false, fmt.Errorf("look for %s, which tracks it: %w", o, err)
		}
		if lives {
			return o, true, nil
		}
	}
	return core.Owner{}, false, nil
}

// lives says whether a delivery is there.
func (c *Cluster) lives(ctx context.Context, o core.Owner) (bool, error) {
	m, err := c.owners.Mapping(schema.GroupVersionKind{Group: string(o.Dialect), Kind: o.Kind})
	if kube.IsMissingKind(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, err = c.owners.In(m, o.Namespace).Get(ctx, o.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}
