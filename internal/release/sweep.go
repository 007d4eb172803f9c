package release

import (
	"context"
	"fmt"

	"helm.sh/helm/v4/pkg/release/common"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/resource"

	"github.com/fairway-cd/fairway/internal/core"
)

// keepSetting, on an object, has Helm leave it alone where its value is "keep".
const keepSetting = "helm.sh/resource-policy"

// Sweep deletes what the revisions before rec have made that came to no good
// end, and that rec does not have. Helm compares a revision with the last good
// one, so that it leaves these behind: who interrupts an upgrade for a newer
// one would collect them. What was swept is returned. Objects that are another
// release's by now, or that are to be kept, stay.
func (r *Release) Sweep(ctx context.Context, rec *Record) ([]core.ObjectRef, error) {
	wanted := map[core.ObjectRef]bool{}
	var swept []core.ObjectRef
	for revision := rec.Version - 1; revision > 0; revision-- {
		old, err := r.Get(revision)
		if err != nil {
			return swept, err
		}
		if old == nil || old.Info.Status != common.StatusFailed {
			break
		}
		if len(wanted) == 0 {
			refs, err := r.Inventory(ctx, rec)
			if err != nil {
				return swept, err
			}
			for _, ref := range refs {
				wanted[ref.Key()] = true
			}
		}
		list, err := r.objects(ctx, old)
		if err != nil {
			continue // its kinds are gone, and its objects with them
		}
		for _, info := range list {
			if wanted[refOf(info).Key()] {
				continue
			}
			gone, err := r.sweep(ctx, info)
			if err != nil {
				return swept, fmt.Errorf("delete what revision %d of release %s has left: %w", revision, r.Name, err)
			}
			if gone {
				swept = append(swept, refOf(info))
			}
		}
	}
	return swept, nil
}

// sweep deletes an object, if it is the release's.
func (r *Release) sweep(ctx context.Context, info *resource.Info) (bool, error) {
	live, err := r.at(info).Get(ctx, info.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	a := live.GetAnnotations()
	if a["meta.helm.sh/release-name"] != r.Name || a["meta.helm.sh/release-namespace"] != r.Namespace || a[keepSetting] == "keep" {
		return false, nil
	}
	uid, how := live.GetUID(), metav1.DeletePropagationBackground
	err = r.at(info).Delete(ctx, info.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}, PropagationPolicy: &how})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return false, nil
	}
	return err == nil, err
}
