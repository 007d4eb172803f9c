package deploy_test

import (
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
)

// owners makes the deliveries themselves, of which only the names count here.
func (b *bench) owners(list ...core.Owner) {
	b.Helper()
	for _, o := range list {
		b.define(o)
		obj := &unstructured.Unstructured{Object: map[string]any{"apiVersion": string(o.Dialect) + "/v1", "kind": o.Kind}}
		obj.SetNamespace(o.Namespace)
		obj.SetName(o.Name)
		b.applyAs(obj, "test", true)
	}
}

func (b *bench) disown(o core.Owner) {
	b.Helper()
	res, err := b.client.For(core.ObjectRef{Group: string(o.Dialect), Version: "v1", Kind: o.Kind, Namespace: o.Namespace, Name: o.Name})
	if err != nil {
		b.Fatal(err)
	}
	if err := res.Delete(b.Context(), o.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		b.Fatal(err)
	}
}

// define brings the kind of an owner, and its namespace, into the cluster, by
// the deployer itself.
func (b *bench) define(o core.Owner) {
	b.Helper()
	plural := map[string]string{"Application": "applications", "Kustomization": "kustomizations"}[o.Kind]
	b.apply(deploy.Plan{Owner: kustomization("definitions"), Objects: objects(b, `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: `+plural+`.`+string(o.Dialect)+`}
spec:
  group: `+string(o.Dialect)+`
  scope: Namespaced
  names: {kind: `+o.Kind+`, plural: `+plural+`}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
---
apiVersion: v1
kind: Namespace
metadata: {name: `+o.Namespace+`}`)})
}
