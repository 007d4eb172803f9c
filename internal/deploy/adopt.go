package deploy

import (
	"context"
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/mark"
)

// adopt makes fields that earlier deliverers own ours, so that the apply that
// follows removes those that are not wanted. The patch is bound to the
// resource version: whoever writes in between makes it fail, not wrong.
func (c *Cluster) adopt(ctx context.Context, d core.Dialect, live *unstructured.Unstructured) error {
	if mark.HasPredecessor(d, live) == "" && live.GetAnnotations()[lastApplied] == "" {
		return nil
	}
	patch, err := adoption(d, live)
	if err != nil {
		return fmt.Errorf("take the fields of earlier managers over: %w", err)
	}
	if patch == nil {
		return nil
	}
	res, err := c.client.For(refOf(live))
	if err != nil {
		return err
	}
	if _, err := res.Patch(ctx, live.GetName(), types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: mark.FieldManager}); err != nil {
		return fmt.Errorf("take the fields of earlier managers over: %w", err)
	}
	return nil
}

type patchOp struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// adoption returns the JSON patch that gives the predecessors' fields to us,
// and removes kubectl's memory of what it applied.
func adoption(d core.Dialect, live *unstructured.Unstructured) ([]byte, error) {
	ops := []patchOp{{Op: "replace", Path: "/metadata/resourceVersion", Value: live.GetResourceVersion()}}
	entries, changed, err := adopted(d, live.GetManagedFields())
	if err != nil {
		return nil, err
	}
	if changed {
		ops = append(ops, patchOp{Op: "replace", Path: "/metadata/managedFields", Value: entries})
	}
	if live.GetAnnotations()[lastApplied] != "" {
		ops = append(ops, patchOp{Op: "remove", Path: "/metadata/annotations/" + mark.EscapePointer(lastApplied)})
	}
	if len(ops) == 1 {
		return nil, nil
	}
	return json.Marshal(ops)
}

// adopted returns the entries with all predecessors' sets joined into ours.
func adopted(d core.Dialect, entries []metav1.ManagedFieldsEntry) ([]metav1.ManagedFieldsEntry, bool, error) {
	var ours *metav1.ManagedFieldsEntry
	var rest []metav1.ManagedFieldsEntry
	all := &fieldpath.Set{}
	changed := false
	for _, e := range entries {
		mine := e.Manager == mark.FieldManager && e.Operation == metav1.ManagedFieldsOperationApply && e.Subresource == ""
		theirs := mark.Predecessor(d, e.Manager, string(e.Operation), e.Subresource)
		if !mine && !theirs {
			rest = append(rest, e)
			continue
		}
		changed = changed || theirs
		if e.FieldsV1 != nil {
			var s fieldpath.Set
			if err := s.FromJSON(e.FieldsV1.GetRawReader()); err != nil {
				return nil, false, fmt.Errorf("read the fields of %q: %w", e.Manager, err)
			}
			all = all.Union(&s)
		}
		if ours == nil || mine {
			ours = &e
		}
	}
	if !changed {
		return entries, false, nil
	}
	raw, err := all.ToJSON()
	if err != nil {
		return nil, false, fmt.Errorf("write the joined fields: %w", err)
	}
	joined := *ours
	joined.Manager = mark.FieldManager
	joined.Operation = metav1.ManagedFieldsOperationApply
	joined.FieldsV1 = metav1.NewFieldsV1(string(raw))
	return append(rest, joined), true, nil
}
