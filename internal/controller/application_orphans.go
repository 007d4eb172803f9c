package controller

import (
	"fmt"
	"slices"
	"strings"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/core"
)

// orphansNamed is how many orphans a condition names.
const orphansNamed = 10

// noteOrphans says which objects of the Application's namespace nobody has
// asked for, where its project wants to be warned of them. Only then the
// namespace is watched for them; a change of them wakes the Application.
func (a *applicationRun) noteOrphans() {
	if a.projectIs == nil {
		return // it could not be read, and the status says why
	}
	owner, namespace := a.owner(), a.app.Spec.Destination.Namespace
	asks := a.projectIs.Spec.OrphanedResources
	if asks == nil || asks.Warn == nil || !*asks.Warn || namespace == "" || a.app.DeletionTimestamp != nil {
		a.orphans.Leave(owner)
		return
	}
	client, err := a.clientOf(owner)
	if err == nil {
		err = a.orphans.Want(owner, client, namespace)
	}
	if err != nil {
		a.condition(argo.ConditionOrphanedResourceWarning, fmt.Sprintf("orphaned resources of namespace %s are not known: %v", namespace, err))
		return
	}
	list := slices.DeleteFunc(a.orphans.Orphans(owner), func(ref core.ObjectRef) bool {
		return namespacedKindDenied(a.projectIs, ref) || orphanIgnored(asks.Ignore, ref)
	})
	if len(list) > 0 {
		a.condition(argo.ConditionOrphanedResourceWarning, orphanText(list))
	}
}

func orphanText(list []core.ObjectRef) string {
	names := make([]string, min(len(list), orphansNamed))
	for i := range names {
		names[i] = list[i].String()
	}
	text := fmt.Sprintf("Application has %d orphaned resources: %s", len(list), strings.Join(names, ", "))
	if more := len(list) - len(names); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// orphanIgnored: what a rule gives of group, kind and name has to match; all
// are globs, as in Argo CD.
func orphanIgnored(rules []argo.OrphanedResourceKey, ref core.ObjectRef) bool {
	return slices.ContainsFunc(rules, func(r argo.OrphanedResourceKey) bool {
		return (r.Group == "" || matches(r.Group, ref.Group)) && (r.Kind == "" || matches(r.Kind, ref.Kind)) && (r.Name == "" || matches(r.Name, ref.Name))
	})
}
