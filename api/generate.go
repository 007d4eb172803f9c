// Package api holds the CustomResourceDefinitions of the dialects that we
// speak, and installs them.
//
// Other projects' kinds are installed only where nobody else has installed
// them, and keep unknown fields, so that what we do not support reaches us and
// can be refused by name.
package api

//go:generate go run sigs.k8s.io/controller-tools/cmd/controller-gen@v0.21.0 object paths=./argoproj/...
//go:generate go run ./gen crds
