package appset

import (
	"errors"
	"fmt"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig/v3"
	"sigs.k8s.io/yaml"
)

// funcs are the functions of Go templates: sprig's without those that look at
// the machine, and Argo CD's own.
func funcs() template.FuncMap {
	all := sprig.TxtFuncMap()
	for _, name := range []string{"env", "expandenv", "getHostByName"} {
		delete(all, name)
	}
	all["normalize"] = normalize
	all["slugify"] = slugifyArgs
	all["toYaml"] = toYAML
	all["fromYaml"] = func(s string) (map[string]any, error) {
		var out map[string]any
		return out, yaml.Unmarshal([]byte(s), &out)
	}
	all["fromYamlArray"] = func(s string) ([]any, error) {
		var out []any
		return out, yaml.Unmarshal([]byte(s), &out)
	}
	return all
}

func toYAML(v any) (string, error) {
	data, err := yaml.Marshal(v)
	return strings.TrimSuffix(string(data), "\n"), err
}

// slugifyArgs is slugify [LENGTH [WHOLE]] STRING.
func slugifyArgs(args ...any) (string, error) {
	longest, whole := slugLength, true
	if len(args) == 0 || len(args) > 3 {
		return "", fmt.Errorf("slugify takes 1 to 3 arguments, and has %d", len(args))
	}
	if len(args) > 1 {
		n, ok := args[0].(int)
		if !ok {
			return "", errors.New("slugify: the first argument is the longest length, a number")
		}
		longest = n
	}
	if len(args) > 2 {
		cut, ok := args[1].(bool)
		if !ok {
			return "", errors.New("slugify: the second argument says whether words stay whole, true or false")
		}
		whole = cut
	}
	return slugify(fmt.Sprint(args[len(args)-1]), longest, whole), nil
}
