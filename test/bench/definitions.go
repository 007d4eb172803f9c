package main

import (
	"context"
	"fmt"
	"strings"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// definition is a kind that a rival needs.
type definition struct {
	group, version, kind string
	// status says that it is written apart.
	status bool
}

// fluxDefinitions are the kinds that Flux's two controllers watch and we do not
// have.
func fluxDefinitions() []definition {
	const source = "source.toolkit.fluxcd.io"
	return []definition{
		{source, "v1", "Bucket", true},
		{source, "v1", "ExternalArtifact", true},
	}
}

// argoDefinitions stand in for ours, which are stricter than Argo CD's own: it
// writes an Application's status with the Application, and more of it than we
// read.
func argoDefinitions() []definition {
	return []definition{
		{"argoproj.io", "v1alpha1", "Application", false},
		{"argoproj.io", "v1alpha1", "ApplicationSet", false},
		{"argoproj.io", "v1alpha1", "AppProject", false},
	}
}

// define makes the definitions. They take whatever is written: the API server
// has less to do with them than with those that the rivals publish.
func define(ctx context.Context, cfg *rest.Config, kinds []definition) error {
	client, err := clientset.NewForConfig(cfg)
	if err != nil {
		return err
	}
	for _, d := range kinds {
		if _, err := client.ApiextensionsV1().CustomResourceDefinitions().Create(ctx, d.open(), metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("define %s: %w", d.kind, err)
		}
	}
	return nil
}

// open is the definition without a schema.
func (d definition) open() *apiextensions.CustomResourceDefinition {
	plural, anything := strings.ToLower(d.kind)+"s", true
	v := apiextensions.CustomResourceDefinitionVersion{
		Name: d.version, Served: true, Storage: true,
		Schema: &apiextensions.CustomResourceValidation{
			OpenAPIV3Schema: &apiextensions.JSONSchemaProps{Type: "object", XPreserveUnknownFields: &anything},
		},
	}
	if d.status {
		v.Subresources = &apiextensions.CustomResourceSubresources{Status: &apiextensions.CustomResourceSubresourceStatus{}}
	}
	return &apiextensions.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: plural + "." + d.group},
		Spec: apiextensions.CustomResourceDefinitionSpec{
			Group: d.group, Scope: apiextensions.NamespaceScoped, Versions: []apiextensions.CustomResourceDefinitionVersion{v},
			Names: apiextensions.CustomResourceDefinitionNames{Plural: plural, Singular: strings.ToLower(d.kind), Kind: d.kind, ListKind: d.kind + "List"},
		},
	}
}
