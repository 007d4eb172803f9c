package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

const fieldManager = "fairway-cluster"

// applyDNS applies the cluster's DNS server.
func applyDNS(ctx context.Context, config *rest.Config, s settings) error {
	manifests, err := render("coredns.yaml", s)
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	documents := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifests), 4096)
	for {
		var object unstructured.Unstructured
		err := documents.Decode(&object)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the manifests of the cluster's DNS: %w", err)
		}
		if err := apply(ctx, client, &object); err != nil {
			return err
		}
	}
}

func apply(ctx context.Context, client dynamic.Interface, object *unstructured.Unstructured) error {
	kind := object.GroupVersionKind()
	// All of our kinds are regular ones, so that no discovery is needed.
	resource, _ := meta.UnsafeGuessKindToResource(kind)
	var into dynamic.ResourceInterface = client.Resource(resource)
	if object.GetNamespace() != "" {
		into = client.Resource(resource).Namespace(object.GetNamespace())
	}
	_, err := into.Apply(ctx, object.GetName(), object, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	if err != nil {
		return fmt.Errorf("applying %s %s: %w", kind.Kind, object.GetName(), err)
	}
	return nil
}
