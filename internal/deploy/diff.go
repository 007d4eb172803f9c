package deploy

import (
	"fmt"

	"github.com/pmezard/go-difflib/difflib"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// UnifiedDiff is a difference as text, from what the cluster has ("live") to
// what it would have ("wanted"), in the unified format. It is empty where
// nothing differs.
func UnifiedDiff(d Difference) string {
	if d.State == InSync || d.State == Uncompared {
		return ""
	}
	text, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{
		A: difflib.SplitLines(asYAML(d.Live)), B: difflib.SplitLines(asYAML(d.Wanted)),
		FromFile: "live/" + d.Ref.String(), ToFile: "wanted/" + d.Ref.String(), Context: 3,
	})
	if err != nil {
		return fmt.Sprintf("# %s: %v\n", d.Ref, err)
	}
	return text
}

// asYAML is "" for nothing. SplitLines ends the last line itself.
func asYAML(obj *unstructured.Unstructured) string {
	if obj == nil {
		return ""
	}
	b, err := yaml.Marshal(obj.Object)
	if err != nil {
		return fmt.Sprintf("# cannot be shown: %v", err)
	}
	return string(b[:len(b)-1])
}
