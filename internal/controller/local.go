package controller

import (
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/render"
)

// RenderLocal renders what the object, an Application or a Kustomization,
// would deliver if its sources were all at tree: a work tree, before it is
// committed. kubeVersion and apiVersions are what charts are told of the
// cluster.
func RenderLocal(ctx context.Context, renderer render.Renderer, object *unstructured.Unstructured, tree core.Tree, kubeVersion string, apiVersions []string) ([]*unstructured.Unstructured, error) {
	d, err := localDelivery(object, capabilities{KubeVersion: kubeVersion, APIVersions: apiVersions})
	if err != nil {
		return nil, err
	}
	snaps := make([]core.Snapshot, len(d.sources))
	for i := range snaps {
		snaps[i].Tree = tree
	}
	// Keys stay in the cluster: what is encrypted is an error.
	d.decryption = decryption{unlocked: true}
	e := &Engine{stages: Stages{Renderer: renderer}}
	t, err := e.render(ctx, d, snaps)
	if err != nil {
		return nil, err
	}
	return t.objects.list(), nil
}

func localDelivery(object *unstructured.Unstructured, caps capabilities) (*delivery, error) {
	if object.GetKind() == argo.ApplicationKind {
		app, err := readApplication(object)
		if err != nil {
			return nil, err
		}
		return applicationDelivery(app, caps)
	}
	k, err := readKustomization(object)
	if err != nil {
		return nil, err
	}
	return kustomizationDelivery(k)
}
