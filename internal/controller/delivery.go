package controller

import (
	"cmp"
	"maps"
	"slices"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
	"github.com/fairway-cd/fairway/internal/render"
)

// delivery is what an object of any dialect asks for, in our own words.
type delivery struct {
	owner   core.Owner
	sources []source
	// options are of a sync without further instructions; Prune is set where
	// the policy itself prunes.
	options deploy.Options
	// params identifies all that is asked for but the revisions: equal params
	// and equal revisions are the same work.
	params string
	// pin, where set, has the revisions in place of the sources' own.
	pin pin
	// decryption says with which keys the sources are decrypted.
	decryption decryption
}

// source is one source of a delivery.
type source struct {
	// name is how value files of other sources refer to it; "" for most.
	name string
	from SourceRequest
	// shape is what is made of each revision before it is read.
	shape shape
	// render is without its trees. A source that renders nothing (only holds
	// value files) has none.
	render *render.Request
}

// urls are the repositories that the delivery is made of.
func (d *delivery) urls() []string {
	var urls []string
	for _, s := range d.sources {
		urls = append(urls, s.from.URL)
	}
	return urls
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
