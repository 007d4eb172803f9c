package release

import (
	chart "helm.sh/helm/v4/pkg/chart/v2"
	ri "helm.sh/helm/v4/pkg/release"
	"helm.sh/helm/v4/pkg/storage/driver"
)

// swap says which chart stands in the record for the one that the action has.
type swap struct{ stub, real *chart.Chart }

// recorder writes the real chart where the action has the stub.
type recorder struct {
	driver.Driver
	swap *swap
}

var _ driver.Driver = (*recorder)(nil)

// Create implements driver.Driver.
func (r *recorder) Create(key string, rel ri.Releaser) error {
	return r.Driver.Create(key, r.real(rel))
}

// Update implements driver.Driver.
func (r *recorder) Update(key string, rel ri.Releaser) error {
	return r.Driver.Update(key, r.real(rel))
}

func (r *recorder) real(rel ri.Releaser) ri.Releaser {
	rec, ok := rel.(*Record)
	if !ok || r.swap == nil || rec.Chart != r.swap.stub {
		return rel
	}
	c := *rec
	c.Chart = r.swap.real
	return &c
}
