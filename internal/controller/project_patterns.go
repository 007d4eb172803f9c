package controller

import (
	"maps"
	"slices"
	"strings"

	"github.com/gobwas/glob"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

// checkPatterns refuses globs that cannot be read: one that denies would deny
// nothing.
func checkPatterns(p *argo.AppProject, refused *SpecError) {
	check := func(path, pattern string) {
		if _, err := glob.Compile(strings.TrimPrefix(pattern, "!")); err != nil {
			refused.add(path, "%q is no pattern: %v", pattern, err)
		}
	}
	for i, repo := range p.Spec.SourceRepos {
		check(indexed("spec.sourceRepos", i), repo)
	}
	for i, namespace := range p.Spec.SourceNamespaces {
		check(indexed("spec.sourceNamespaces", i), namespace)
	}
	for i, d := range p.Spec.Destinations {
		at := indexed("spec.destinations", i)
		check(at+".server", d.Server)
		check(at+".name", d.Name)
		check(at+".namespace", d.Namespace)
	}
	for i, d := range p.Spec.DestinationServiceAccounts {
		at := indexed("spec.destinationServiceAccounts", i)
		check(at+".server", d.Server)
		check(at+".namespace", d.Namespace)
	}
	lists := kindPatterns(p)
	for _, field := range slices.Sorted(maps.Keys(lists)) {
		for i, r := range lists[field] {
			at := indexed("spec."+field, i)
			check(at+".group", r.Group)
			check(at+".kind", r.Kind)
			check(at+".name", r.Name)
		}
	}
}

// kindPatterns are the project's lists of kinds, by field.
func kindPatterns(p *argo.AppProject) map[string][]argo.ClusterResourceRestriction {
	of := func(list []metav1.GroupKind) []argo.ClusterResourceRestriction {
		all := make([]argo.ClusterResourceRestriction, len(list))
		for i, gk := range list {
			all[i] = argo.ClusterResourceRestriction{Group: gk.Group, Kind: gk.Kind}
		}
		return all
	}
	lists := map[string][]argo.ClusterResourceRestriction{
		"clusterResourceWhitelist":   p.Spec.ClusterResourceWhitelist,
		"clusterResourceBlacklist":   p.Spec.ClusterResourceBlacklist,
		"namespaceResourceWhitelist": of(p.Spec.NamespaceResourceWhitelist),
		"namespaceResourceBlacklist": of(p.Spec.NamespaceResourceBlacklist),
	}
	if asks := p.Spec.OrphanedResources; asks != nil {
		for _, k := range asks.Ignore {
			lists["orphanedResources.ignore"] = append(lists["orphanedResources.ignore"], argo.ClusterResourceRestriction(k))
		}
	}
	return lists
}
