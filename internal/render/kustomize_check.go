package render

import (
	"bytes"
	"net/url"
	"path"
	"strings"

	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/kustomize/api/types"
)

// check looks at each file that kustomize reads, before kustomize does, for
// what would leave the tree: a download, a clone, a chart, a program.
func (f *kustomizeFS) check(file string, data []byte) error {
	if isKustomizationName(path.Base(file)) {
		var k types.Kustomization
		// What is no kustomization is kustomize's to report.
		if k.Unmarshal(data) == nil {
			return f.checkKustomization(file, &k)
		}
		return nil
	}
	// A built-in generator or transformer may be configured in a file of its
	// own, whose paths are loaded as a kustomization's are.
	if bytes.Contains(data, []byte("://")) && bytes.Contains(data, []byte("builtin")) {
		return checkPlugin(file, data)
	}
	return nil
}

func (f *kustomizeFS) checkKustomization(file string, k *types.Kustomization) error {
	for _, w := range *k.CheckDeprecatedFields() {
		f.job.warn(file + ": " + strings.TrimSpace(strings.TrimPrefix(w, "# Warning: ")))
	}
	k.FixKustomization()
	if len(k.HelmCharts) > 0 {
		return NewError(Unsupported, file, 0, "helmCharts is not supported").
			WithHint("commit the chart, and deploy it as a Helm source or commit what it renders")
	}
	f.noteEncrypted(file, k)
	f.customSchema = f.customSchema || len(k.OpenAPI) > 0
	for _, ref := range kustomizationPaths(k) {
		if isRemote(ref.path) {
			return NewError(RemoteNotAllowed, file, 0, "%s refers to something remote: %s", ref.field, withoutUserinfo(ref.path))
		}
	}
	for _, inline := range [][]string{k.Generators, k.Transformers, k.Validators} {
		for _, text := range inline {
			if strings.Contains(text, "\n") {
				if err := checkPlugin(file, []byte(text)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// pathRef is a path in a kustomization, and the field that it stands in.
type pathRef struct{ field, path string }

// kustomizationPaths are all values of k that kustomize loads as a path.
func kustomizationPaths(k *types.Kustomization) []pathRef {
	var refs []pathRef
	add := func(field string, paths ...string) {
		for _, p := range paths {
			refs = append(refs, pathRef{field, p})
		}
	}
	add("resources", k.Resources...)
	add("components", k.Components...)
	add("crds", k.Crds...)
	add("configurations", k.Configurations...)
	add("generators", k.Generators...)
	add("transformers", k.Transformers...)
	add("validators", k.Validators...)
	for _, p := range k.PatchesStrategicMerge {
		add("patchesStrategicMerge", string(p))
	}
	for _, p := range append(append([]types.Patch{}, k.Patches...), k.PatchesJson6902...) {
		add("patches", p.Path)
	}
	for _, r := range k.Replacements {
		add("replacements", r.Path)
	}
	for _, g := range k.ConfigMapGenerator {
		add("configMapGenerator", generatorPaths(g.KvPairSources)...)
	}
	for _, g := range k.SecretGenerator {
		add("secretGenerator", generatorPaths(g.KvPairSources)...)
	}
	add("openapi", k.OpenAPI["path"])
	return refs
}

func generatorPaths(s types.KvPairSources) []string {
	paths := append([]string{s.EnvSource}, s.EnvSources...)
	for _, file := range s.FileSources {
		if _, p, ok := strings.Cut(file, "="); ok {
			paths = append(paths, p)
		}
		paths = append(paths, file)
	}
	return paths
}

// isRemote says whether kustomize would fetch p: by HTTP, or by git in one of
// the forms of its RepoSpec.
func isRemote(p string) bool {
	if strings.Contains(p, "\n") {
		return false // an inline document
	}
	lower := strings.ToLower(strings.TrimSpace(p))
	for _, prefix := range []string{"git::", "gh:", "github.com/", "github.com:", "www.github.com/", "www.github.com:"} {
		if strings.HasPrefix(lower, prefix) {
			return true
		}
	}
	return strings.Contains(lower, "://") || scpLike(lower)
}

// scpLike is "user@host:path".
func scpLike(p string) bool {
	user, rest, ok := strings.Cut(p, "@")
	return ok && user != "" && !strings.ContainsAny(user, "/.") && strings.Contains(rest, ":")
}

// withoutUserinfo removes a password from a URL that is shown.
func withoutUserinfo(s string) string {
	if u, err := url.Parse(s); err == nil && u.Host != "" {
		u.User, u.RawQuery = nil, ""
		return u.String()
	}
	if _, host, ok := strings.Cut(s, "@"); ok {
		return host
	}
	return s
}

// checkPlugin refuses a built-in plugin's configuration that holds a URL where
// a path may stand.
func checkPlugin(file string, data []byte) error {
	for _, doc := range splitDocuments(data) {
		var node yaml.Node
		if yaml.Unmarshal(doc.text, &node) != nil || !hasBuiltin(&node) {
			continue
		}
		if n := remoteScalar(&node, 0); n != nil {
			return NewError(RemoteNotAllowed, file, doc.line+n.Line-1, "a generator or transformer refers to something remote")
		}
	}
	return nil
}

func hasBuiltin(doc *yaml.Node) bool {
	if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		return false
	}
	m := doc.Content[0].Content
	for i := 0; i+1 < len(m); i += 2 {
		if m[i].Value == "apiVersion" {
			return m[i+1].Value == "builtin"
		}
	}
	return false
}

func remoteScalar(n *yaml.Node, depth int) *yaml.Node {
	if depth > maxDepth {
		return n
	}
	if n.Kind == yaml.ScalarNode {
		_, value, ok := strings.Cut(n.Value, "=")
		if strings.HasPrefix(n.Value, "http://") || strings.HasPrefix(n.Value, "https://") ||
			ok && (strings.HasPrefix(value, "http://") || strings.HasPrefix(value, "https://")) {
			return n
		}
		return nil
	}
	for _, c := range n.Content {
		if found := remoteScalar(c, depth+1); found != nil {
			return found
		}
	}
	return nil
}
