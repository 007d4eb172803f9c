package deploy

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// checkSecret says what the API server would refuse in a Secret's values. The
// server repeats these in its answer and in its log, so that it is not shown
// such a Secret. The errors name fields, and no values.
func checkSecret(obj *unstructured.Unstructured) error {
	var wrong []string
	for _, field := range []string{"data", "stringData"} {
		switch values := obj.Object[field].(type) {
		case nil:
		case map[string]any:
			for _, name := range slices.Sorted(maps.Keys(values)) {
				if problem := secretValue(field, values[name]); problem != "" {
					wrong = append(wrong, fmt.Sprintf("%s.%s %s", field, name, problem))
				}
			}
		default:
			wrong = append(wrong, field+" is not a map")
		}
	}
	for field, is := range map[string]func(any) bool{
		"type": func(v any) bool { _, ok := v.(string); return ok }, "immutable": func(v any) bool { _, ok := v.(bool); return ok },
	} {
		if v := obj.Object[field]; v != nil && !is(v) {
			wrong = append(wrong, field+" has the wrong type")
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	slices.Sort(wrong)
	return errors.New(strings.Join(wrong, "; "))
}

func secretValue(field string, value any) string {
	text, ok := value.(string)
	if value == nil {
		return ""
	}
	if !ok {
		return "is not a string"
	}
	if field == "stringData" {
		return ""
	}
	if _, err := base64.StdEncoding.DecodeString(text); err != nil {
		return "is not base64 (stringData takes plain text)"
	}
	return ""
}
