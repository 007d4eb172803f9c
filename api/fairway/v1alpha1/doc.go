// Package v1alpha1 holds the kinds of fairway-cd.io. docs/spec has a page for
// each of them.
//
// +kubebuilder:object:generate=true
// +groupName=fairway-cd.io
package v1alpha1
