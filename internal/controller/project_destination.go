package controller

import (
	"cmp"
	"fmt"
	"strings"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/fleet"
)

// destinationProblem says why the project does not let something go to a
// namespace of a cluster, of which at has server and name, and is "" where it
// does: some destination permits it, and none denies it. A destination names
// its cluster by server or by name; one that has "!" before a part denies what
// it names, and permits nothing.
func destinationProblem(p *argo.AppProject, at argo.ApplicationDestination) string {
	permitted, cluster := false, false
	for i, d := range p.Spec.Destinations {
		var noNamespace, noServer, noName bool
		d.Namespace, noNamespace = strings.CutPrefix(d.Namespace, "!")
		d.Server, noServer = strings.CutPrefix(d.Server, "!")
		d.Name, noName = strings.CutPrefix(d.Name, "!")
		if !namesCluster(d, at) {
			continue
		}
		cluster = cluster || !noNamespace && !noServer && !noName
		if !matches(d.Namespace, at.Namespace) {
			continue
		}
		switch {
		case noServer || noName:
			return fmt.Sprintf("denies the cluster %s (spec.destinations[%d])", clusterName(at), i)
		case noNamespace:
			return fmt.Sprintf("denies the namespace %q of cluster %s (spec.destinations[%d])", at.Namespace, clusterName(at), i)
		}
		permitted = true
	}
	switch {
	case permitted:
		return ""
	case !cluster:
		return fmt.Sprintf("does not permit the cluster %s: no spec.destinations has it", clusterName(at))
	}
	return fmt.Sprintf("does not permit the namespace %q of cluster %s", at.Namespace, clusterName(at))
}

// clusterName is the cluster for people.
func clusterName(at argo.ApplicationDestination) string { return cmp.Or(at.Name, at.Server) }

// namesCluster says whether a destination's patterns are of the cluster that at
// has server and name of.
func namesCluster(d, at argo.ApplicationDestination) bool {
	return d.Server != "" && matches(fleet.NormalServer(d.Server), at.Server) || d.Name != "" && matches(d.Name, at.Name)
}
