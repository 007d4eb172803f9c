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
		namespace, noNamespace := strings.CutPrefix(d.Namespace, "!")
		server, noServer := strings.CutPrefix(d.Server, "!")
		name, noName := strings.CutPrefix(d.Name, "!")
		named := server != "" && matches(fleet.NormalServer(server), at.Server) || name != "" && matches(name, at.Name)
		if !named || !matches(namespace, at.Namespace) {
			continue
		}
		if noNamespace || noServer || noName {
			return false
		}
		permitted = true
	}
	return permitted
}
