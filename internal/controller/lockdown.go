package controller

import (
	"errors"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/fluxcd/pkg/apis/acl"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Lockdown is what all Kustomizations and HelmReleases are held to where they
// are other people's: Flux' multi-tenancy lockdown. The zero value trusts them.
type Lockdown struct {
	// DefaultServiceAccount is as which ServiceAccount of their namespace those
	// act that name none; empty is as ourselves. As in Flux that is so in the
	// cluster of a spec.kubeConfig, too.
	DefaultServiceAccount string `json:"defaultServiceAccount,omitempty"`
	// NoCrossNamespaceRefs refuses those whose source is in another namespace.
	NoCrossNamespaceRefs bool `json:"noCrossNamespaceRefs,omitempty"`
}

// crossNamespaceError is a *SpecError of a reference that the lockdown refuses.
type crossNamespaceError struct{ refused *SpecError }

func (e *crossNamespaceError) Error() string { return e.refused.Error() }
func (e *crossNamespaceError) Unwrap() error { return e.refused }

// reasonInvalid is the reason of who is not ready because of its spec.
func reasonInvalid(err error) string {
	if errors.As(err, new(*crossNamespaceError)) {
		return acl.AccessDeniedReason
	}
	return "InvalidSpec"
}

// refers refuses the reference at path to another namespace than own; "" is
// the own one.
func (l Lockdown) refers(own, namespace, path string) error {
	if !l.NoCrossNamespaceRefs || namespace == "" || namespace == own {
		return nil
	}
	refused := &SpecError{}
	refused.add(path, "%q is another namespace, of which nothing may be named here (--no-cross-namespace-refs)", namespace)
	return &crossNamespaceError{refused}
}

// kustomization reads the object as readKustomization does, under the lockdown.
func (l Lockdown) kustomization(u *unstructured.Unstructured) (*kustomizationObject, error) {
	k, err := readKustomization(u)
	k.Spec.ServiceAccountName = orElse(k.Spec.ServiceAccountName, l.DefaultServiceAccount)
	if err != nil {
		return k, err
	}
	return k, l.refers(k.Namespace, k.Spec.SourceRef.Namespace, "spec.sourceRef.namespace")
}

// helmRelease reads the object as readHelmRelease does, under the lockdown.
func (l Lockdown) helmRelease(u *unstructured.Unstructured) (*helmv2.HelmRelease, error) {
	hr, err := readHelmRelease(u)
	hr.Spec.ServiceAccountName = orElse(hr.Spec.ServiceAccountName, l.DefaultServiceAccount)
	switch {
	case err != nil:
		return hr, err
	case hr.Spec.ChartRef != nil:
		return hr, l.refers(hr.Namespace, hr.Spec.ChartRef.Namespace, "spec.chartRef.namespace")
	}
	return hr, l.refers(hr.Namespace, hr.Spec.Chart.Spec.SourceRef.Namespace, "spec.chart.spec.sourceRef.namespace")
}
