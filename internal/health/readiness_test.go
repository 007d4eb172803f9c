package health

import "testing"

func TestReadiness(t *testing.T) {
	r, err := NewReadiness()
	if err != nil {
		t.Fatal(err)
	}
	self := map[string]any{"metadata": map[string]any{"labels": map[string]any{"app/version": "v2"}}}
	dep := map[string]any{
		"metadata": map[string]any{"generation": int64(3), "labels": map[string]any{"app/version": "v2"}},
		"status":   map[string]any{"observedGeneration": int64(3), "conditions": []any{map[string]any{"type": "Ready", "status": "True"}}},
	}
	for text, want := range map[string]bool{
		`dep.metadata.labels['app/version'] == self.metadata.labels['app/version']`:                                true,
		`dep.status.conditions.filter(e, e.type == 'Ready').all(e, e.status == 'True')`:                            true,
		`dep.status.conditions.exists(e, e.type == 'Ready' && e.status == 'True') && dep.metadata.generation == 4`: false,
		`dep.status.nothing.there == 1`: false,
	} {
		for range 2 { // compiled, and kept
			got, err := r.Holds(text, self, dep)
			if err != nil || got != want {
				t.Errorf("%s: %v, %v", text, got, err)
			}
		}
	}
	for _, wrong := range []string{"", "dep.", "other.status", "'a text'", "[1,2,3].map(x, [1,2,3].map(y, [1,2,3].map(z, 1)))"} {
		if err := r.Check(wrong); err == nil {
			if holds, err := r.Holds(wrong, self, dep); err == nil {
				t.Errorf("%q is taken, and %v", wrong, holds)
			}
		}
	}
	if err := r.Check("nobody.status"); err == nil {
		t.Error("a name that is not known is taken")
	}
}
