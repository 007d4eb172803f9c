package drift

import (
	"strconv"
	"strings"
	"unique"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/mark"
)

// projection is what is kept of an object.
type projection struct {
	version uint64 // the resource version
	digest  string // of the manifest that was applied; "" where that is not known
	drift   Drift
	by      string
	health  core.Health
	message string
	// foreign says that the watch has shown another manifest than the one before,
	// which nobody here is known to have applied.
	foreign bool
	// owners are those who track it; nearly always one. Their names are kept
	// once for all objects of theirs, and no longer than these.
	owners []unique.Handle[core.Owner]
}

// project reduces an object. It is called as the object is decoded and keeps
// nothing of it.
func (c *Cluster) project(obj *unstructured.Unstructured) *projection {
	list := c.tracking.Read(obj)
	p := &projection{owners: make([]unique.Handle[core.Owner], len(list))}
	for i, owner := range list {
		p.owners[i] = unique.Make(owner)
	}
	p.version, _ = strconv.ParseUint(obj.GetResourceVersion(), 10, 64)
	if applied, ok := mark.ReadApplied(obj); ok {
		p.digest = applied.Digest
	}
	owner := core.Owner{Dialect: core.ArgoCD}
	if len(list) > 0 {
		owner = list[0]
	}
	p.health, p.message = c.health(owner, obj)
	p.drift, p.by = judge(owner.Dialect, obj)
	return p
}

// judge says whether an object is as it was applied, and who changed it. All
// that it takes is in the object.
func judge(d core.Dialect, obj *unstructured.Unstructured) (Drift, string) {
	if d == core.Flux && leave(obj) {
		return None, ""
	}
	if !mark.Intact(obj) || obj.GetLabels()[mark.LabelManaged] != "true" {
		return Modified, mark.LastManager(obj)
	}
	// Nobody has touched our fields, but somebody has delivered fields of
	// their own, which the dialect would take away again.
	if by := mark.HasPredecessor(d, obj); by != "" && !merges(d, obj) {
		return Modified, by
	}
	return None, ""
}

// merges says that others' fields are welcome.
func merges(d core.Dialect, obj *unstructured.Unstructured) bool {
	return d == core.Flux && strings.EqualFold(mark.FluxSetting(obj, "ssa"), "merge")
}

// leave says that somebody has told Flux to leave the object alone.
func leave(obj *unstructured.Unstructured) bool {
	return strings.EqualFold(mark.FluxSetting(obj, "reconcile"), "disabled") || strings.EqualFold(mark.FluxSetting(obj, "ssa"), "ignore")
}
