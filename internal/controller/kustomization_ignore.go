package controller

import (
	"slices"

	"github.com/fairway-cd/fairway/internal/deploy"
	"github.com/fairway-cd/fairway/internal/release"
)

// optionsFor are the options of the delivery for what was rendered: the rules
// of spec.ignore are for the objects that they select. As in Flux what they
// name is neither drift nor applied, unless the object has to be made.
func (k *kustomizationRun) optionsFor(t *target) (deploy.Options, error) {
	o := k.delivery.options
	if len(k.k.Spec.Ignore) == 0 {
		return o, nil
	}
	o.RespectIgnoreDifferences = true
	o.IgnoreDifferences = slices.Clone(o.IgnoreDifferences)
	refused := &SpecError{}
	for _, object := range t.objects.list() {
		ref := refOf(object)
		for i, rule := range k.k.Spec.Ignore {
			selected, err := release.Selects(kustomizeSelector(rule.Target), object)
			if err != nil {
				refused.add(indexed("spec.ignore", i)+".target", "%v", err)
				return o, refused
			}
			if selected {
				o.IgnoreDifferences = append(o.IgnoreDifferences, deploy.IgnoreDifference{
					Group: ref.Group, Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name, JSONPointers: rule.Paths,
				})
			}
		}
	}
	return o, nil
}
