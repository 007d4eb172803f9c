package release

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"helm.sh/helm/v4/pkg/kube"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/resource"
)

// CRDPolicy says what becomes of a chart's crds/ directory.
type CRDPolicy string

// The policies. The zero value skips them.
const (
	SkipCRDs      CRDPolicy = ""
	CreateCRDs    CRDPolicy = "Create"
	CreateReplace CRDPolicy = "CreateReplace"
)

// crdTimeout is how long the API server may take to serve a new kind.
const crdTimeout = time.Minute

// applyCRDs applies the chart's definitions before its objects, and waits
// until they are served.
func (r *Release) applyCRDs(ctx context.Context, files []File, o Options) error {
	if o.CRDs == SkipCRDs || len(files) == 0 {
		return nil
	}
	client, ok := r.configure(ctx, nil).KubeClient.(*kube.Client)
	if !ok {
		return nil
	}
	var applied kube.ResourceList
	for _, f := range files {
		list, err := client.Build(bytes.NewBufferString(f.Text), false)
		if err != nil {
			return fmt.Errorf("apply the definitions of %s: %w", f.Path, err)
		}
		for _, info := range list {
			if err := r.applyCRD(ctx, info, o.CRDs); err != nil {
				return fmt.Errorf("apply %s of %s: %w", info.Name, f.Path, err)
			}
		}
		applied = append(applied, list...)
	}
	waiter, err := client.GetWaiterWithOptions(kube.StatusWatcherStrategy, waitWith(ctx)...)
	if err != nil {
		return fmt.Errorf("wait for definitions: %w", err)
	}
	if err := waiter.Wait(applied, crdTimeout); err != nil {
		return fmt.Errorf("wait for definitions: %w", err)
	}
	r.id.discovery.Invalidate()
	return nil
}

func (r *Release) applyCRD(ctx context.Context, info *resource.Info, policy CRDPolicy) error {
	obj, err := asUnstructured(info)
	if err != nil {
		return err
	}
	at := r.at(info)
	if policy == CreateReplace {
		_, err = at.Apply(ctx, info.Name, obj, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
		return err
	}
	_, err = at.Create(ctx, obj, metav1.CreateOptions{FieldManager: fieldManager})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func asUnstructured(info *resource.Info) (*unstructured.Unstructured, error) {
	obj, ok := info.Object.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("%s %s is a %T", info.Mapping.GroupVersionKind.Kind, info.Name, info.Object)
	}
	return obj.DeepCopy(), nil
}
