package app

import (
	"testing"

	"github.com/fairway-cd/fairway/internal/core"
)

func TestOwnRepositories(t *testing.T) {
	s := &sources{own: []string{"localhost:8420"}}
	for url, want := range map[string]core.Name{
		"oci://localhost:8420/charts/web":      {Namespace: "charts", Name: "web"},
		"oci://localhost:8420/team/charts/web": {Namespace: "team", Name: "charts/web"},
		"oci://localhost:8420/charts":          {},
		"oci://localhost:8421/charts/web":      {},
		"https://localhost:8420/charts/web":    {},
		"oci://localhost:8420.evil/charts/web": {},
	} {
		if name, own := s.Own(url); name != want || own != (want != core.Name{}) {
			t.Errorf("%s is %v, %v", url, name, own)
		}
	}
}
