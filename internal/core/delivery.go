package core

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Owner is a delivery: the object that asks for other objects to be applied,
// such as an Application or a Kustomization.
type Owner struct {
	Dialect   Dialect
	Kind      string
	Namespace string
	Name      string
}

// Dialect is the tool whose semantics an Owner asks for.
type Dialect string

// The dialects that deliver objects.
const (
	ArgoCD Dialect = "argoproj.io"
	Flux   Dialect = "kustomize.toolkit.fluxcd.io"
)

func (o Owner) String() string { return fmt.Sprintf("%s %s/%s", o.Kind, o.Namespace, o.Name) }

// HelmRelease is the kind of Flux that has a group of its own.
const HelmRelease = "HelmRelease"

// Resource is what Kubernetes calls the objects of the owner's kind.
func (o Owner) Resource() string {
	switch {
	case o.Kind == HelmRelease:
		return "helmreleases"
	case o.Dialect == Flux:
		return "kustomizations"
	}
	return "applications"
}

// Group is the API group of the owner's kind.
func (o Owner) Group() string {
	if o.Kind == HelmRelease {
		return "helm.toolkit.fluxcd.io"
	}
	return string(o.Dialect)
}

// Action is what a user does with the owner's object.
func (o Owner) Action(verb string) Action {
	return Action{Verb: verb, Group: o.Group(), Resource: o.Resource(), Namespace: o.Namespace, Name: o.Name}
}

// ObjectRef names one object of a cluster. Version is how it was asked for
// and is no part of its identity: compare Key().
type ObjectRef struct {
	Group     string `json:"group,omitempty"`
	Version   string `json:"version"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// GroupVersionKind is the kind as Kubernetes' machinery wants it.
func (r ObjectRef) GroupVersionKind() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: r.Group, Version: r.Version, Kind: r.Kind}
}

// Key is the identity: the reference without its version.
func (r ObjectRef) Key() ObjectRef { r.Version = ""; return r }

// String is "Deployment.apps production/web-app".
func (r ObjectRef) String() string {
	kind := r.Kind
	if r.Group != "" {
		kind += "." + r.Group
	}
	if r.Namespace == "" {
		return kind + " " + r.Name
	}
	return kind + " " + r.Namespace + "/" + r.Name
}

// Health is how well an object, or all of a delivery, does.
type Health string

// The health states, worst last, as Argo CD names and orders them.
const (
	Healthy     Health = "Healthy"
	Suspended   Health = "Suspended"
	Progressing Health = "Progressing"
	Missing     Health = "Missing"
	Degraded    Health = "Degraded"
	Unknown     Health = "Unknown"
)
