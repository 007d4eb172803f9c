package core

import "time"

// Image names one image, or any other artifact, in this instance's registry.
type Image struct {
	Repository Name
	// Tag is empty where the image was named by its digest.
	Tag string
	// Digest of the manifest, "sha256:…".
	Digest string
}

// String is "NAMESPACE/NAME[:TAG][@DIGEST]".
func (i Image) String() string {
	s := i.Repository.String()
	if i.Tag != "" {
		s += ":" + i.Tag
	}
	if i.Digest != "" {
		s += "@" + i.Digest
	}
	return s
}

// ImagePush is the event of a manifest that was pushed.
type ImagePush struct {
	// ID names the event for ever: delivered twice, it has the same ID.
	ID    string
	Image Image
	// MediaType of the manifest, and ArtifactType where it has one.
	MediaType, ArtifactType string
	// Subject is the digest that the manifest is about, where it is evidence
	// (a signature, an SBOM) and not an image to run.
	Subject string
	// Who is the Kubernetes user name behind the push.
	Who string
	// When the push was stored.
	When time.Time
}
