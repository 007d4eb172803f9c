package appset

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gobwas/glob"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

// AnnotationAllowedProjects are the projects, as globs with commas between,
// that may come out of parameters which a repository or a provider decides.
const AnnotationAllowedProjects = "fairway-cd.io/allowed-projects"

// applications fills in the template with each set of a generator's
// parameters.
func (g *generation) applications(ctx context.Context, gen *argo.ApplicationSetGenerator, params []Params) ([]*unstructured.Unstructured, error) {
	template, err := g.template(override(gen))
	if err != nil {
		return nil, err
	}
	filled, err := g.fill(ctx, "spec.template", template, params)
	if err != nil {
		return nil, err
	}
	patches := make([]any, len(filled))
	if p := g.set.Spec.TemplatePatch; p != nil {
		if patches, err = g.fill(ctx, "spec.templatePatch", *p, params); err != nil {
			return nil, err
		}
	}
	out := make([]*unstructured.Unstructured, len(filled))
	for i, value := range filled {
		if out[i], err = g.application(value, patches[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// template is the set's template, with what a generator's has in its place.
func (g *generation) template(over *argo.ApplicationSetTemplate) (map[string]any, error) {
	base, err := asMap(g.set.Spec.Template)
	if err != nil || over == nil {
		return base, err
	}
	more, err := asMap(over)
	if err != nil {
		return nil, err
	}
	return deepMerge(base, withoutEmpty(more)), nil
}

func asMap(v any) (map[string]any, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var out map[string]any
	return out, utiljson.Unmarshal(data, &out)
}

// withoutEmpty leaves out what overrides nothing.
func withoutEmpty(m map[string]any) map[string]any {
	out := map[string]any{}
	for key, value := range m {
		switch v := value.(type) {
		case nil:
		case string:
			if v != "" {
				out[key] = v
			}
		case []any:
			if len(v) > 0 {
				out[key] = v
			}
		case map[string]any:
			if below := withoutEmpty(v); len(below) > 0 {
				out[key] = below
			}
		default:
			out[key] = v
		}
	}
	return out
}

// application makes an Application of the template that was filled in.
func (g *generation) application(filled, patch any) (*unstructured.Unstructured, error) {
	template, ok := filled.(map[string]any)
	if !ok {
		return nil, &ApplicationError{"", "the template is no object"}
	}
	if text, _ := patch.(string); !isBlank(text) {
		patched, err := patchTemplate(template, text)
		if err != nil {
			name, _, _ := unstructured.NestedString(template, "metadata", "name")
			return nil, &ApplicationError{name, "spec.templatePatch: " + err.Error()}
		}
		template = patched
	}
	u := &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{}}}
	u.SetGroupVersionKind(argo.GroupVersion.WithKind(argo.ApplicationKind))
	var meta argo.ApplicationSetTemplateMeta
	if err := decode(template["metadata"], &meta); err != nil {
		return nil, &ApplicationError{"", "metadata: " + err.Error()}
	}
	u.SetName(meta.Name)
	u.SetNamespace(g.set.Namespace)
	u.SetLabels(meta.Labels)
	u.SetAnnotations(meta.Annotations)
	u.SetFinalizers(g.finalizers(meta.Finalizers))
	var spec argo.ApplicationSpec
	if err := decode(template["spec"], &spec); err != nil {
		return nil, &ApplicationError{meta.Name, "spec: " + err.Error()}
	}
	u.Object["spec"] = template["spec"]
	return u, g.check(u, &meta, &spec)
}

// finalizers are those of an Application: where it names none, what it has
// deployed goes with it, unless the set says otherwise. As in Argo CD.
func (g *generation) finalizers(own []string) []string {
	preserve := g.set.Spec.SyncPolicy != nil && g.set.Spec.SyncPolicy.PreserveResourcesOnDeletion
	if len(own) == 0 && !preserve {
		return []string{argo.Finalizer}
	}
	return own
}

// decode reads a value strictly.
func decode(value, into any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	strict, err := kjson.UnmarshalStrict(data, into)
	if err == nil && len(strict) > 0 {
		err = strict[0]
	}
	return err
}

// patchTemplate applies a strategic merge patch, in YAML or JSON.
func patchTemplate(template map[string]any, text string) (map[string]any, error) {
	if len(text) > maxString {
		return nil, fmt.Errorf("it has more than %d bytes", maxString)
	}
	var patch map[string]any
	if err := yaml.Unmarshal([]byte(text), &patch); err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "error converting YAML to JSON: "))
	}
	project, patches, _ := unstructured.NestedFieldNoCopy(patch, "spec", "project")
	was, _, _ := unstructured.NestedFieldNoCopy(template, "spec", "project")
	if patches && project != was {
		return nil, errors.New("spec.project cannot be patched; template it")
	}
	before, err := json.Marshal(template)
	if err != nil {
		return nil, err
	}
	change, err := json.Marshal(patch)
	if err != nil {
		return nil, err
	}
	after, err := strategicpatch.StrategicMergePatch(before, change, argo.Application{})
	if err != nil {
		return nil, err
	}
	var out map[string]any
	if err := utiljson.Unmarshal(after, &out); err != nil {
		return nil, err
	}
	if is, _, _ := unstructured.NestedFieldNoCopy(out, "spec", "project"); is != was {
		return nil, errors.New("spec.project cannot be patched; template it")
	}
	return out, nil
}

// check says what is wrong with an Application that was generated.
func (g *generation) check(u *unstructured.Unstructured, meta *argo.ApplicationSetTemplateMeta, spec *argo.ApplicationSpec) error {
	refuse := func(format string, args ...any) error {
		return &ApplicationError{meta.Name, fmt.Sprintf(format, args...)}
	}
	if problems := validation.IsDNS1123Subdomain(meta.Name); len(problems) > 0 {
		return refuse("metadata.name: %s", problems[0])
	}
	if meta.Namespace != "" && meta.Namespace != g.set.Namespace {
		return refuse("metadata.namespace is %q: an ApplicationSet makes Applications in its own namespace, %q", meta.Namespace, g.set.Namespace)
	}
	problems := metav1validation.ValidateLabels(u.GetLabels(), field.NewPath("metadata", "labels"))
	for key := range u.GetAnnotations() {
		for _, problem := range validation.IsQualifiedName(strings.ToLower(key)) {
			problems = append(problems, field.Invalid(field.NewPath("metadata", "annotations"), key, problem))
		}
	}
	if len(problems) > 0 {
		return refuse("%s", problems[0].Error())
	}
	return g.checkProject(meta.Name, spec.Project)
}

// checkProject refuses a project that is not written in the set, but comes of
// parameters that those decide who write to a repository or a provider, unless
// the set says which may.
func (g *generation) checkProject(name, project string) error {
	written := []string{g.set.Spec.Template.Spec.Project}
	outside := false
	for i := range g.set.Spec.Generators {
		gen := &g.set.Spec.Generators[i]
		if over := override(gen); over != nil && over.Spec.Project != "" {
			written = append(written, over.Spec.Project)
		}
		outside = outside || decidedOutside(gen)
	}
	if !outside || slices.Contains(written, project) {
		return nil
	}
	for _, pattern := range strings.Split(g.set.Annotations[AnnotationAllowedProjects], ",") {
		if p, err := glob.Compile(strings.TrimSpace(pattern)); err == nil && pattern != "" && p.Match(project) {
			return nil
		}
	}
	return &ApplicationError{name, fmt.Sprintf("spec.project is %q by parameters that others decide: name the projects that may come out in the annotation %s", project, AnnotationAllowedProjects)}
}

// decidedOutside says whether parameters come from a repository or a provider:
// from people who need not be those who write the set.
func decidedOutside(gen *argo.ApplicationSetGenerator) bool {
	if gen.Git != nil || gen.SCMProvider != nil || gen.PullRequest != nil {
		return true
	}
	return slices.ContainsFunc(Nested(gen), decidedOutside)
}

// Nested are the generators inside of a generator, as far as they can be read
// before they are filled in.
func Nested(gen *argo.ApplicationSetGenerator) []*argo.ApplicationSetGenerator {
	var out []*argo.ApplicationSetGenerator
	if gen.Matrix != nil {
		for _, raw := range gen.Matrix.Generators {
			inner := &argo.ApplicationSetGenerator{}
			if json.Unmarshal(raw.Raw, inner) == nil {
				out = append(out, inner)
			}
		}
	}
	if gen.Merge != nil {
		for _, raw := range gen.Merge.Generators {
			inner := &argo.ApplicationSetGenerator{}
			if json.Unmarshal(raw.Raw, inner) == nil {
				out = append(out, inner)
			}
		}
	}
	return out
}

// checkAll refuses two Applications of one name.
func (g *generation) checkAll(apps []*unstructured.Unstructured) error {
	seen := map[string]bool{}
	for _, app := range apps {
		if seen[app.GetName()] {
			return &ApplicationError{app.GetName(), "the generators make two of this name"}
		}
		seen[app.GetName()] = true
	}
	return nil
}
