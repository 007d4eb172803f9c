// Package registry is the OCI registry of the house, at /v2/: images and
// their evidence, for docker, containerd, skopeo, crane, helm and oras alike.
//
// distribution/distribution keeps blobs, uploads and manifests on disk. In
// front of it stands what distribution does not do: who may (every request is
// authorized on "images" of the repository's namespace), one name for NAME
// and default/NAME, limits, the referrers API of OCI 1.1, sha512, lists
// filtered by what the caller may see, and garbage collection beside running
// pushes. Behind it stands a storage driver that survives kill -9 and power
// loss at any point.
//
// docs/design/registry.md has the decisions, docs/spec/registry.md what is
// supported.
package registry
