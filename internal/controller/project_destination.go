package controller

import (
	"strings"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/fleet"
)

// permitsDestination says whether the project lets something go to a namespace
// of a cluster, of which at has server and name: some destination permits it,
// and none denies it. A destination names its cluster by server or by name; one
// that has "!" before a part denies what it names, and permits nothing.
func permitsDestination(p *argo.AppProject, at argo.ApplicationDestination) bool {
	permitted := false
	for _, d := range p.Spec.Destinations {
		var noNamespace, noServer, noName bool
		d.Namespace, noNamespace = strings.CutPrefix(d.Namespace, "!")
		d.Server, noServer = strings.CutPrefix(d.Server, "!")
		d.Name, noName = strings.CutPrefix(d.Name, "!")
		if !namesCluster(d, at) || !matches(d.Namespace, at.Namespace) {
			continue
		}
		if noNamespace || noServer || noName {
			return false
		}
		permitted = true
	}
	return permitted
}

// namesCluster says whether a destination's patterns are of the cluster that at
// has server and name of.
func namesCluster(d, at argo.ApplicationDestination) bool {
	return d.Server != "" && matches(fleet.NormalServer(d.Server), at.Server) || d.Name != "" && matches(d.Name, at.Name)
}
