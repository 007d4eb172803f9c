package deploy

import (
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
)

// Argo CD's and Helm's annotations of hooks.
const (
	annotationHook           = "argocd.argoproj.io/hook"
	annotationHookPolicy     = "argocd.argoproj.io/hook-delete-policy"
	annotationHelmHook       = "helm.sh/hook"
	annotationHelmHookPolicy = "helm.sh/hook-delete-policy"
)

// phase is a part of a sync. Hooks run in theirs, everything else in phaseSync.
type phase string

const (
	phasePreSync    phase = "PreSync"
	phaseSync       phase = "Sync"
	phasePostSync   phase = "PostSync"
	phaseSyncFail   phase = "SyncFail"
	phasePreDelete  phase = "PreDelete"
	phasePostDelete phase = "PostDelete"
)

// phases are those of an apply, in order.
var phases = []phase{phasePreSync, phaseSync, phasePostSync}

// deletePolicy is when a hook's object is deleted.
type deletePolicy string

const (
	hookSucceeded      deletePolicy = "HookSucceeded"
	hookFailed         deletePolicy = "HookFailed"
	beforeHookCreation deletePolicy = "BeforeHookCreation"
)

// hook is what makes an object a hook.
type hook struct {
	phases   []phase
	policies []deletePolicy
	// skip: never applied ("Skip", or a Helm hook that Argo CD does not know).
	skip bool
}

// helmPhases are Argo CD's phases for Helm's hooks. The others (test,
// rollback) have none: such a hook is not run, as in Argo CD.
var helmPhases = map[string]phase{
	"crd-install": phasePreSync, "pre-install": phasePreSync, "pre-upgrade": phasePreSync,
	"post-install": phasePostSync, "post-upgrade": phasePostSync,
	"pre-delete": phasePreDelete, "post-delete": phasePostDelete,
}

var helmPolicies = map[string]deletePolicy{
	"hook-succeeded": hookSucceeded, "hook-failed": hookFailed, "before-hook-creation": beforeHookCreation,
}

// hookOf returns what makes obj a hook, or nil. Argo CD's annotation wins over
// Helm's. Flux knows no hooks: there all objects are just objects.
func hookOf(owner core.Owner, obj *unstructured.Unstructured) (*hook, error) {
	if owner.Dialect != core.ArgoCD {
		return nil, nil
	}
	a := obj.GetAnnotations()
	names, helm := split(a[annotationHook]), split(a[annotationHelmHook])
	if len(names) == 0 && len(helm) == 0 {
		return nil, nil
	}
	h := &hook{}
	for _, name := range names {
		switch p := phase(name); p {
		case phasePreSync, phaseSync, phasePostSync, phaseSyncFail, phasePreDelete, phasePostDelete:
			h.phases = append(h.phases, p)
		case "Skip":
			h.skip = len(names) == 1
		default:
			return nil, &optionError{Annotation: annotationHook, Value: name}
		}
	}
	if len(names) == 0 {
		if slices.Equal(helm, []string{"crd-install"}) {
			return nil, nil // an ordinary object, as in Argo CD
		}
		for _, name := range helm {
			if p, ok := helmPhases[name]; ok && !slices.Contains(h.phases, p) {
				h.phases = append(h.phases, p)
			}
		}
		h.skip = len(h.phases) == 0
	}
	return h, h.readPolicies(a)
}

func (h *hook) readPolicies(a map[string]string) error {
	for _, name := range split(a[annotationHookPolicy]) {
		switch p := deletePolicy(name); p {
		case hookSucceeded, hookFailed, beforeHookCreation:
			h.policies = append(h.policies, p)
		default:
			return &optionError{Annotation: annotationHookPolicy, Value: name}
		}
	}
	for _, name := range split(a[annotationHelmHookPolicy]) {
		if p, ok := helmPolicies[name]; ok {
			h.policies = append(h.policies, p)
		}
	}
	if len(h.policies) == 0 {
		h.policies = []deletePolicy{beforeHookCreation}
	}
	return nil
}

func (h *hook) deletes(p deletePolicy) bool { return slices.Contains(h.policies, p) }
