// Package v1alpha1 holds Argo CD's Application and AppProject as plain data:
// the fields and JSON names of argoproj.io/v1alpha1, in types of our own, so
// that nothing of Argo CD's server has to be linked in.
//
// The types name every field that Argo CD 3.6 documents, whether we support
// it or not: what is named here and not supported is refused with its path,
// what is not named here is an unknown field.
//
// +kubebuilder:object:generate=true
// +groupName=argoproj.io
package v1alpha1
