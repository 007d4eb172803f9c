// Command gen makes the CustomResourceDefinitions of the dialects: it runs
// controller-gen over the Go types (ours for Argo CD, upstream's for Flux) and
// changes what it printed. Unknown fields are kept at each level; older
// versions of Flux's kinds are served; the label that says whose it is is set;
// and what only a controller writes, or what is there a second time, has an
// open schema: the API server works for each definition's whole schema
// several times before it serves the kind, which everybody waits for at the
// first start.
package main

import (
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

const (
	controllerGen = "sigs.k8s.io/controller-tools/cmd/controller-gen@v0.21.0"
	labelOurs     = "app.kubernetes.io/managed-by"
)

// kinds are what we keep of what controller-gen prints, and the older
// versions that are to be served as well.
var kinds = map[string][]string{
	"argoproj.io_applications.yaml":                   nil,
	"argoproj.io_applicationsets.yaml":                nil,
	"argoproj.io_appprojects.yaml":                    nil,
	"bitnami.com_sealedsecrets.yaml":                  nil,
	"kustomize.toolkit.fluxcd.io_kustomizations.yaml": {"v1beta2"},
	"source.toolkit.fluxcd.io_gitrepositories.yaml":   {"v1beta2"},
	"source.toolkit.fluxcd.io_helmrepositories.yaml":  {"v1beta2"},
	"source.toolkit.fluxcd.io_helmcharts.yaml":        {"v1beta2"},
	"source.toolkit.fluxcd.io_ocirepositories.yaml":   {"v1beta2"},
	"helm.toolkit.fluxcd.io_helmreleases.yaml":        {"v2beta2"},
}

var sources = []string{
	"paths=github.com/fairway-cd/fairway/api/argoproj/v1alpha1",
	"paths=github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1",
	"paths=github.com/fluxcd/helm-controller/api/v2",
	"paths=github.com/fluxcd/kustomize-controller/api/v1",
	"paths=github.com/fluxcd/source-controller/api/v1",
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: gen DIRECTORY")
	}
	if err := run(os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

func run(dir string) error {
	tmp, err := os.MkdirTemp("", "crds")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	args := append([]string{"run", controllerGen, "crd:maxDescLen=400", "output:crd:dir=" + tmp}, sources...)
	gen := exec.Command("go", args...)
	gen.Stderr = os.Stderr
	if err := gen.Run(); err != nil {
		return fmt.Errorf("run controller-gen: %w", err)
	}
	for file, older := range kinds {
		if err := convert(filepath.Join(tmp, file), filepath.Join(dir, file), older); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

func convert(from, to string, older []string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	var crd apiextensions.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(data, &crd); err != nil {
		return err
	}
	if crd.Labels == nil {
		crd.Labels = map[string]string{}
	}
	crd.Labels[labelOurs] = "fairway"
	crd.Spec.Conversion = &apiextensions.CustomResourceConversion{Strategy: apiextensions.NoneConverter}
	for i := range crd.Spec.Versions {
		root := crd.Spec.Versions[i].Schema.OpenAPIV3Schema
		keepUnknown(root)
		replace(root.Properties, "status", open)
		generators := root.Properties["spec"].Properties["generators"]
		// A field that is refused by name, with a copy of what a source is.
		eachNamed(root, "sourceHydrator", func(hydrator *apiextensions.JSONSchemaProps) {
			*hydrator = open(*hydrator)
		})
		eachNamed(&generators, "template", func(template *apiextensions.JSONSchemaProps) {
			replace(template.Properties, "spec", open)
		})
	}
	for _, name := range older {
		v := *crd.Spec.Versions[0].DeepCopy()
		v.Name, v.Storage, v.Deprecated = name, false, true
		undescribed(v.Schema.OpenAPIV3Schema)
		crd.Spec.Versions = append(crd.Spec.Versions, v)
	}
	out, err := yaml.Marshal(struct {
		APIVersion string         `json:"apiVersion"`
		Kind       string         `json:"kind"`
		Metadata   map[string]any `json:"metadata"`
		Spec       any            `json:"spec"`
	}{"apiextensions.k8s.io/v1", "CustomResourceDefinition", map[string]any{
		"name": crd.Name, "labels": crd.Labels, "annotations": crd.Annotations,
	}, crd.Spec})
	if err != nil {
		return err
	}
	return os.WriteFile(to, out, 0o644)
}

// keepUnknown marks each object of the schema below the root's metadata, so
// that what is not in the schema is stored all the same.
func keepUnknown(s *apiextensions.JSONSchemaProps) {
	if s == nil {
		return
	}
	if s.Type == "object" && s.AdditionalProperties == nil {
		yes := true
		s.XPreserveUnknownFields = &yes
	}
	for name, p := range s.Properties {
		if name == "metadata" && len(p.Properties) == 0 {
			continue
		}
		keepUnknown(&p)
		s.Properties[name] = p
	}
	if s.Items != nil {
		keepUnknown(s.Items.Schema)
	}
	if s.AdditionalProperties != nil {
		keepUnknown(s.AdditionalProperties.Schema)
	}
}

// open is a schema's object without what is said of its fields.
func open(s apiextensions.JSONSchemaProps) apiextensions.JSONSchemaProps {
	yes := true
	return apiextensions.JSONSchemaProps{
		Type: "object", Description: s.Description, Default: s.Default, XPreserveUnknownFields: &yes,
	}
}

// replace changes the property of that name, where there is one.
func replace(properties map[string]apiextensions.JSONSchemaProps, name string, by func(apiextensions.JSONSchemaProps) apiextensions.JSONSchemaProps) {
	if p, is := properties[name]; is {
		properties[name] = by(p)
	}
}

// eachNamed visits the properties of that name below a schema.
func eachNamed(s *apiextensions.JSONSchemaProps, name string, visit func(*apiextensions.JSONSchemaProps)) {
	each(s, func(at string, p *apiextensions.JSONSchemaProps) {
		if at == name {
			visit(p)
		}
	})
}

// undescribed takes the descriptions away: an older version's are those of the
// one that is stored.
func undescribed(s *apiextensions.JSONSchemaProps) {
	s.Description = ""
	each(s, func(_ string, p *apiextensions.JSONSchemaProps) { p.Description = "" })
}

// each visits every schema below one, with the name of the property that it
// is, from the inside to the outside; a list's or a map's are "".
func each(s *apiextensions.JSONSchemaProps, visit func(name string, p *apiextensions.JSONSchemaProps)) {
	for name, p := range s.Properties {
		each(&p, visit)
		visit(name, &p)
		s.Properties[name] = p
	}
	if s.Items != nil && s.Items.Schema != nil {
		each(s.Items.Schema, visit)
		visit("", s.Items.Schema)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		each(s.AdditionalProperties.Schema, visit)
		visit("", s.AdditionalProperties.Schema)
	}
}
