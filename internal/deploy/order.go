package deploy

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fairway-cd/fairway/internal/core"
)

// step is what is done before anything is waited for: prunes first, then
// applies, kind by kind.
type step struct {
	phase  phase
	wave   int
	prunes []*extra
	items  []*item
	// ready: what was applied is waited for whatever the options say, since
	// what follows cannot be without it.
	ready bool
}

// argoKinds is the order in which kinds are applied within a wave: Helm's,
// with Argo CD's additions (gitops-engine's sync_tasks.go). Kinds that are not
// in it come last.
var argoKinds = ranks("Namespace", "NetworkPolicy", "ResourceQuota", "LimitRange",
	"PodSecurityPolicy", "PodDisruptionBudget", "ServiceAccount", "Secret", "SecretList",
	"ConfigMap", "StorageClass", "PersistentVolume", "PersistentVolumeClaim",
	"CustomResourceDefinition", "ClusterRole", "ClusterRoleList", "ClusterRoleBinding",
	"ClusterRoleBindingList", "Role", "RoleList", "RoleBinding", "RoleBindingList",
	"Service", "DaemonSet", "Pod", "ReplicationController", "ReplicaSet", "Deployment",
	"HorizontalPodAutoscaler", "StatefulSet", "Job", "CronJob", "IngressClass", "Ingress",
	"APIService")

// fluxKinds is Flux' (fluxcd/pkg/ssa's ReconcileOrder).
var fluxKinds = ranks("CustomResourceDefinition", "Namespace", "ClusterRole", "ClusterClass",
	"RuntimeClass", "PriorityClass", "StorageClass", "VolumeSnapshotClass", "IngressClass",
	"GatewayClass", "ClusterRoleBinding", "ResourceQuota", "ServiceAccount", "Role",
	"RoleBinding", "ConfigMap", "Secret", "Service", "LimitRange", "Deployment",
	"StatefulSet", "CronJob", "PodDisruptionBudget")

func ranks(kinds ...string) map[string]int {
	m := make(map[string]int, len(kinds))
	for i, k := range kinds {
		m[k] = i - len(kinds)
	}
	return m
}

// rank orders kinds of a dialect. Flux has webhooks last of all, so that they
// do not refuse what they are made of.
func rank(d core.Dialect, kind string) int {
	if d == core.Flux {
		if strings.HasSuffix(kind, "WebhookConfiguration") {
			return 1
		}
		return fluxKinds[kind]
	}
	return argoKinds[kind]
}

func byKind(d core.Dialect) func(a, b core.ObjectRef) int {
	return func(a, b core.ObjectRef) int {
		return cmp.Or(
			cmp.Compare(rank(d, a.Kind), rank(d, b.Kind)),
			cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Group, b.Group),
			cmp.Compare(a.Name, b.Name), cmp.Compare(a.Namespace, b.Namespace))
	}
}

// steps puts a plan in order.
func steps(pre *prepared, extras []*extra) []*step {
	if pre.plan.Owner.Dialect == core.Flux {
		return fluxSteps(pre.items, extras)
	}
	return argoSteps(pre, extras)
}

// fluxSteps: definitions, then classes, each waited for, then all the rest,
// then the prunes.
func fluxSteps(items []*item, extras []*extra) []*step {
	definitions, classes := &step{phase: phaseSync, ready: true}, &step{phase: phaseSync, ready: true}
	rest, last := &step{phase: phaseSync}, &step{phase: phaseSync, prunes: extras}
	for _, it := range items {
		switch kind := it.ref.Kind; {
		case kind == "CustomResourceDefinition", kind == "Namespace", kind == "ClusterRole":
			definitions.items = append(definitions.items, it)
		case strings.HasSuffix(kind, "Class"):
			classes.items = append(classes.items, it)
		default:
			rest.items = append(rest.items, it)
		}
	}
	return finish(core.Flux, []*step{definitions, classes, rest, last})
}

// argoSteps: phases, and waves in them. Prunes run in the opposite order of
// their waves, mirrored onto the waves in which they stand, as Argo CD does;
// PruneLast ones come after all else.
func argoSteps(pre *prepared, extras []*extra) []*step {
	pullDependencies(pre)
	type at struct {
		phase phase
		wave  int
	}
	found := map[at]*step{}
	in := func(p phase, wave int) *step {
		s := found[at{p, wave}]
		if s == nil {
			s = &step{phase: p, wave: wave}
			found[at{p, wave}] = s
		}
		return s
	}
	for _, it := range pre.items {
		s := in(it.phase, it.settings.wave)
		s.items = append(s.items, it)
	}
	var waves []int
	for _, x := range extras {
		if !x.settings.pruneLast {
			waves = append(waves, x.settings.wave)
		}
	}
	slices.Sort(waves)
	waves = slices.Compact(waves)
	for _, x := range extras {
		wave := math.MaxInt
		if i, ok := slices.BinarySearch(waves, x.settings.wave); ok && !x.settings.pruneLast {
			wave = waves[len(waves)-1-i]
		}
		s := in(phaseSync, wave)
		s.prunes = append(s.prunes, x)
	}
	var list []*step
	for _, p := range phases {
		var of []*step
		for k, s := range found {
			if k.phase == p {
				of = append(of, s)
			}
		}
		slices.SortFunc(of, func(a, b *step) int { return cmp.Compare(a.wave, b.wave) })
		list = append(list, of...)
	}
	return finish(core.ArgoCD, list)
}

// finish drops empty steps and sorts what is in the others.
func finish(d core.Dialect, list []*step) []*step {
	list = slices.DeleteFunc(list, func(s *step) bool { return len(s.items)+len(s.prunes) == 0 })
	order := byKind(d)
	for _, s := range list {
		slices.SortStableFunc(s.items, func(a, b *item) int { return order(a.ref, b.ref) })
		slices.SortStableFunc(s.prunes, func(a, b *extra) int { return order(b.ref, a.ref) })
	}
	return list
}

// pullDependencies brings a Namespace or definition forward to the first step
// that needs it, whatever wave it was given.
func pullDependencies(pre *prepared) {
	for _, dep := range pre.items {
		needs := dependents(dep)
		if needs == nil {
			continue
		}
		for _, it := range pre.items {
			if it != dep && needs(it) && before(it, dep) {
				dep.phase, dep.settings.wave = it.phase, it.settings.wave
			}
		}
	}
}

// dependents returns what cannot be without the item; nil is nothing.
func dependents(dep *item) func(*item) bool {
	switch {
	case dep.ref.Kind == "Namespace" && dep.ref.Group == "":
		return func(it *item) bool { return it.ref.Namespace == dep.ref.Name }
	case isDefinition(dep.obj):
		group, _, _ := unstructured.NestedString(dep.obj.Object, "spec", "group")
		kind, _, _ := unstructured.NestedString(dep.obj.Object, "spec", "names", "kind")
		gk := schema.GroupKind{Group: group, Kind: kind}
		return func(it *item) bool { return it.ref.GroupVersionKind().GroupKind() == gk }
	}
	return nil
}

func before(a, b *item) bool {
	pa, pb := slices.Index(phases, a.phase), slices.Index(phases, b.phase)
	if pa < 0 {
		return false // SyncFail
	}
	return pa < pb || pa == pb && a.settings.wave < b.settings.wave
}

// groups cuts a step's items, which are sorted, where the kind changes: the
// objects of one kind are applied at once.
func groups(items []*item) [][]*item {
	var gs [][]*item
	for i, it := range items {
		if i == 0 || items[i-1].ref.Kind != it.ref.Kind {
			gs = append(gs, nil)
		}
		gs[len(gs)-1] = append(gs[len(gs)-1], it)
	}
	return gs
}
