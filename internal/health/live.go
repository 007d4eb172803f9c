package health

import (
	"sync/atomic"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
)

// Live is a table that can be replaced while others ask it. The zero value is
// the rules that are shipped.
type Live struct{ table atomic.Pointer[Table] }

// Of is a Func, as Table.Of.
func (l *Live) Of(d core.Dialect, obj *unstructured.Unstructured) (core.Health, string) {
	if t := l.table.Load(); t != nil {
		return t.Of(d, obj)
	}
	return Of(d, obj)
}

// Set makes t the table. What was asked before is not asked again by itself.
func (l *Live) Set(t *Table) { l.table.Store(t) }
