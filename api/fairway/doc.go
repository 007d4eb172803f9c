// Package fairway is our own API group, fairway-cd.io, which holds only what
// nobody has. The Go types are in the packages of its versions; this package
// carries the CustomResourceDefinitions made from them.
package fairway

import (
	"embed"
	"io/fs"
)

//go:generate go run sigs.k8s.io/controller-tools/cmd/controller-gen@v0.21.0 object crd:crdVersions=v1 paths=./v1alpha1/... output:crd:dir=config/crd

//go:embed config/crd/*.yaml
var files embed.FS

// CRDs holds the group's CustomResourceDefinitions, one YAML file a kind, in
// its root.
func CRDs() fs.FS {
	sub, err := fs.Sub(files, "config/crd")
	if err != nil {
		panic(err) // the path is a constant, and valid
	}
	return sub
}
