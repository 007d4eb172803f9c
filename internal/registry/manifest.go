package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fairway-cd/fairway/internal/core"
)

// The manifests that are kept: OCI's, and Docker's version 2, schema 2.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// manifest is what the registry reads of a manifest, of whatever kind.
type manifest struct {
	SchemaVersion int                  `json:"schemaVersion"`
	MediaType     string               `json:"mediaType"`
	ArtifactType  string               `json:"artifactType"`
	Config        *ocispec.Descriptor  `json:"config"`
	Layers        []ocispec.Descriptor `json:"layers"`
	Manifests     []ocispec.Descriptor `json:"manifests"`
	Subject       *ocispec.Descriptor  `json:"subject"`
	Annotations   map[string]string    `json:"annotations"`
}

// isIndex says that the manifest lists others.
func (m manifest) isIndex() bool {
	return m.MediaType == ocispec.MediaTypeImageIndex || m.MediaType == dockerList
}

// artifactType is how referrers are filtered: the manifest's own, or the
// media type of its config.
func (m manifest) artifactType() string {
	if m.ArtifactType == "" && m.Config != nil {
		return m.Config.MediaType
	}
	return m.ArtifactType
}

// blobs are the descriptors of content that is no manifest.
func (m manifest) blobs() []ocispec.Descriptor {
	if m.isIndex() {
		return nil
	}
	out := m.Layers
	if m.Config != nil {
		out = append([]ocispec.Descriptor{*m.Config}, out...)
	}
	return out
}

// parseManifest reads a manifest that was sent, or is kept, as mediaType (""
// where that is not known).
func parseManifest(content []byte, mediaType string) (manifest, *apiError) {
	invalid := func(format string, args ...any) (manifest, *apiError) {
		return manifest{}, errorf(http.StatusBadRequest, codeManifestInvalid, format, args...)
	}
	var m manifest
	if err := json.Unmarshal(content, &m); err != nil {
		return invalid("the manifest is not JSON of a manifest: %v", err)
	}
	if m.SchemaVersion != 2 {
		return invalid("schemaVersion is %d: only 2 is supported", m.SchemaVersion)
	}
	switch {
	case mediaType == "" && m.MediaType == "" && m.Manifests != nil:
		m.MediaType = ocispec.MediaTypeImageIndex
	case mediaType == "" && m.MediaType == "":
		m.MediaType = ocispec.MediaTypeImageManifest
	case m.MediaType == "":
		m.MediaType = mediaType
	case mediaType != "" && mediaType != m.MediaType:
		return invalid("the manifest says that it is %s, the request says %s", m.MediaType, mediaType)
	}
	switch m.MediaType {
	case ocispec.MediaTypeImageManifest, dockerManifest:
		if m.Config == nil {
			return invalid("the manifest has no config")
		}
	case ocispec.MediaTypeImageIndex, dockerList:
	default:
		return invalid("media type %q is not supported", m.MediaType)
	}
	all := append(m.blobs(), m.Manifests...)
	if m.Subject != nil {
		all = append(all, *m.Subject)
	}
	for _, d := range all {
		if _, bad := parseDigest(d.Digest.String()); bad != nil {
			return invalid("the manifest refers to an invalid digest")
		}
	}
	return m, nil
}

// getManifest serves GET and HEAD, whatever the client accepts: what an
// image is does not depend on who asks. A client that is told by HEAD that
// there is a manifest need not push it.
func (g *Registry) getManifest(r *http.Request, rt route) (*answer, *apiError) {
	if r.Method == http.MethodHead {
		defer g.locks.rely(rt.name)()
	}
	d, err := g.resolve(r.Context(), rt)
	if isMissing(err) {
		return nil, errNoManifest()
	} else if err != nil {
		return nil, internalError(err)
	}
	r.Header["Accept"] = []string{ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, dockerManifest, dockerList}
	rt.ref = d.String() // should the tag move
	a := g.ask(r, rt, nil)
	if a.status == http.StatusNotFound {
		return nil, errNoManifest()
	}
	if a.ok() {
		if err := g.use(r, revisionPath(rt.name, d)); err != nil {
			return nil, internalError(err)
		}
	}
	return a, nil
}

func errNoManifest() *apiError {
	return errorf(http.StatusNotFound, codeManifestUnknown, "no such manifest")
}

// resolve finds out the digest that a route's reference stands for. What
// cannot be a reference is as missing as one that is not there.
func (g *Registry) resolve(ctx context.Context, rt route) (digest.Digest, error) {
	if tagPattern.MatchString(rt.ref) {
		return g.store.tagged(ctx, rt.name, rt.ref)
	}
	d, bad := parseDigest(rt.ref)
	if bad != nil {
		return "", missing(rt.ref)
	}
	_, err := g.store.link(ctx, revisionPath(rt.name, d)+"/link")
	return d, err
}

// putManifest checks and stores a manifest, and tells who wants to know.
func (g *Registry) putManifest(r *http.Request, rt route, user core.User) (*answer, *apiError) {
	content, bad := g.readManifest(r)
	if bad != nil {
		return nil, bad
	}
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil && r.Header.Get("Content-Type") != "" {
		return nil, errorf(http.StatusBadRequest, codeManifestInvalid, "the Content-Type is invalid")
	}
	m, bad := parseManifest(content, mediaType)
	if bad != nil {
		return nil, bad
	}
	if bad := g.admit(r.Context(), rt.name); bad != nil {
		return nil, bad
	}
	d := digest.SHA256.FromBytes(content)
	tag, alias, bad := checkReference(rt.ref, content)
	if bad != nil {
		return nil, bad
	}
	if tag == "" {
		rt.ref = d.String()
	}
	a, err := g.storeManifest(r, rt, m, content, alias)
	if err != nil {
		return nil, internalError(err)
	}
	if a.ok() && g.pushed != nil {
		g.pushed(r.Context(), pushEvent(rt.name, tag, d, m, user))
	}
	return a, nil
}

func (g *Registry) readManifest(r *http.Request) ([]byte, *apiError) {
	tooLarge := errorf(http.StatusRequestEntityTooLarge, codeSizeInvalid, "the manifest is larger than %d bytes", g.limits.ManifestBytes)
	if r.ContentLength > g.limits.ManifestBytes {
		return nil, tooLarge
	}
	content, err := io.ReadAll(io.LimitReader(r.Body, g.limits.ManifestBytes+1))
	switch {
	case err != nil:
		return nil, errorf(http.StatusBadRequest, codeManifestInvalid, "the manifest could not be read")
	case int64(len(content)) > g.limits.ManifestBytes:
		return nil, tooLarge
	}
	return content, nil
}

// checkReference reads what a manifest is pushed as: a tag, or its digest,
// which is an alias where it is not sha256.
func checkReference(ref string, content []byte) (tag string, alias digest.Digest, bad *apiError) {
	if tagPattern.MatchString(ref) {
		return ref, "", nil
	}
	d, bad := parseDigest(ref)
	if bad != nil {
		bad.message = "the reference is neither a tag nor a digest"
		return "", "", bad
	}
	if d.Algorithm().FromBytes(content) != d {
		return "", "", errorf(http.StatusBadRequest, codeDigestInvalid, "the manifest does not have the digest %s", d)
	}
	if d.Algorithm() != digest.SHA256 {
		alias = d
	}
	return "", alias, nil
}

// useReferences marks what the manifest refers to as used now.
func (g *Registry) useReferences(r *http.Request, n core.Name, m manifest) error {
	for _, d := range m.blobs() {
		if err := g.useBlob(r, n, d.Digest); err != nil {
			return err
		}
	}
	for _, d := range m.Manifests {
		if err := g.use(r, revisionPath(n, d.Digest)); err != nil {
			return err
		}
	}
	return nil
}

// storeManifest has distribution verify and store the manifest.
//
// The entry in the subject's referrers is written first and read only while
// the manifest is there: a crash in between leaves an entry that counts for
// nothing, never a referrer that is not listed.
func (g *Registry) storeManifest(r *http.Request, rt route, m manifest, content []byte, alias digest.Digest) (*answer, error) {
	ctx := r.Context()
	d := digest.SHA256.FromBytes(content)
	defer g.locks.change(rt.name)()
	defer g.locks.content(d)()
	if err := g.useReferences(r, rt.name, m); err != nil {
		return nil, err
	}
	if m.Subject != nil {
		if err := g.addReferrer(ctx, rt.name, m, d, int64(len(content))); err != nil {
			return nil, err
		}
	}
	put := r.Clone(ctx)
	put.Header.Set("Content-Type", m.MediaType)
	put.Body = io.NopCloser(bytes.NewReader(content))
	put.ContentLength = int64(len(content))
	a := g.ask(put, rt, nil)
	if !a.ok() {
		return a, nil
	}
	if err := g.use(r, revisionPath(rt.name, d)); err != nil {
		return nil, err
	}
	if alias != "" {
		if err := g.store.PutContent(ctx, revisionPath(rt.name, alias)+"/link", []byte(d)); err != nil {
			return nil, err
		}
		rt.ref = alias.String()
		a.header.Set("Docker-Content-Digest", alias.String())
		a.header.Set("Location", rt.path())
	}
	if m.Subject != nil {
		a.header.Set("OCI-Subject", m.Subject.Digest.String())
	}
	return a, nil
}

func pushEvent(n core.Name, tag string, d digest.Digest, m manifest, user core.User) core.ImagePush {
	now := time.Now()
	push := core.ImagePush{
		ID:           n.String() + ":" + tag + "@" + d.String() + "/" + now.UTC().Format(time.RFC3339Nano),
		Image:        core.Image{Repository: n, Tag: tag, Digest: d.String()},
		MediaType:    m.MediaType,
		ArtifactType: m.ArtifactType,
		Who:          user.Name,
		When:         now,
	}
	if m.Subject != nil {
		push.Subject = m.Subject.Digest.String()
	}
	return push
}

// deleteManifest removes a tag, or a manifest with all its tags.
func (g *Registry) deleteManifest(r *http.Request, rt route) (*answer, *apiError) {
	defer g.locks.change(rt.name)()
	if tagPattern.MatchString(rt.ref) {
		a := g.ask(r, rt, nil)
		if a.status == http.StatusNotFound {
			return nil, errNoManifest()
		}
		return a, nil
	}
	ctx := r.Context()
	d, err := g.resolve(ctx, rt)
	if err == nil {
		d, err = g.store.link(ctx, revisionPath(rt.name, d)+"/link")
	}
	if err == nil {
		err = g.dropManifest(ctx, rt.name, d)
	}
	switch {
	case isMissing(err):
		return nil, errNoManifest()
	case err != nil:
		return nil, internalError(err)
	}
	return &answer{status: http.StatusAccepted, header: http.Header{}}, nil
}

// tagsOf lists the tags that stand for a manifest.
func (g *Registry) tagsOf(ctx context.Context, n core.Name, d digest.Digest) ([]string, error) {
	all, err := g.store.names(ctx, tagsPath(n))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, tag := range all {
		to, err := g.store.tagged(ctx, n, tag)
		if err != nil && !isMissing(err) {
			return nil, err
		}
		if to == d {
			out = append(out, tag)
		}
	}
	return out, nil
}

// dropManifest takes a manifest, its tags, its other digests and its entry
// among the referrers out of a repository. The caller has its lock. The
// revision goes last, so that what a crash leaves can be deleted again.
func (g *Registry) dropManifest(ctx context.Context, n core.Name, d digest.Digest) error {
	content, err := g.store.manifest(ctx, n, d)
	if err != nil && !isMissing(err) {
		return err
	}
	drop := func(p string) error {
		if err := g.store.Delete(ctx, p); err != nil && !isMissing(err) {
			return err
		}
		return nil
	}
	tags, err := g.tagsOf(ctx, n, d)
	if err != nil {
		return err
	}
	for _, tag := range tags {
		if err := drop(tagPath(n, tag)); err != nil {
			return err
		}
	}
	revisions, err := g.store.digests(ctx, repoPath(n)+"/_manifests/revisions")
	if err != nil {
		return err
	}
	for _, alias := range revisions {
		if alias.Algorithm() == digest.SHA256 {
			continue
		}
		to, err := g.store.link(ctx, revisionPath(n, alias)+"/link")
		if err == nil && to == d {
			err = drop(revisionPath(n, alias))
		}
		if err != nil && !isMissing(err) {
			return err
		}
	}
	if m, bad := parseManifest(content, ""); bad == nil && m.Subject != nil {
		if err := drop(referrerPath(n, m.Subject.Digest, d)); err != nil {
			return err
		}
	}
	return g.store.Delete(ctx, revisionPath(n, d))
}
