package registry

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"

	// The digest algorithms of the specification register themselves.
	_ "crypto/sha256"
	_ "crypto/sha512"

	"github.com/opencontainers/go-digest"

	"github.com/fairway-cd/fairway/internal/core"
)

// endpoint is one of the path shapes of the specification.
type endpoint int

const (
	endBase      endpoint = iota // /v2/
	endCatalog                   // /v2/_catalog
	endTags                      // /v2/NAME/tags/list
	endManifest                  // /v2/NAME/manifests/REFERENCE
	endBlob                      // /v2/NAME/blobs/DIGEST
	endUploads                   // /v2/NAME/blobs/uploads/
	endUpload                    // /v2/NAME/blobs/uploads/ID
	endReferrers                 // /v2/NAME/referrers/DIGEST
)

// route is a parsed request path. What is authorized and what is served are
// both taken from it, never from the path again.
type route struct {
	end endpoint
	// name is canonical; asked is how the client wrote it.
	name  core.Name
	asked string
	// ref is the tag, digest or upload ID, as it stands in the path and not
	// yet checked.
	ref string
}

// maxName is the longest repository name; clients limit host and name to 255.
const maxName = 255

var (
	// namePattern is <name> of the specification, stricter than core's on
	// separators.
	namePattern = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagPattern  = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	// uploadPattern is what distribution names its uploads: a UUID.
	uploadPattern = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
)

// parseRoute reads the path of a request, which begins with /v2. The last
// segments say what is asked for, so a repository may be called
// "ns/manifests".
func parseRoute(path string) (route, *apiError) {
	rest, ok := strings.CutPrefix(path, "/v2")
	switch {
	case !ok:
		return route{}, errorf(http.StatusNotFound, codeUnsupported, "no such endpoint")
	case rest == "" || rest == "/":
		return route{end: endBase}, nil
	case rest == "/_catalog":
		return route{end: endCatalog}, nil
	}
	rest, ok = strings.CutPrefix(rest, "/")
	if !ok {
		return route{}, errorf(http.StatusNotFound, codeUnsupported, "no such endpoint")
	}
	parts := strings.Split(rest, "/")
	n := len(parts)
	rt, cut := route{}, 2
	switch {
	case n > 2 && parts[n-2] == "tags" && parts[n-1] == "list":
		rt.end = endTags
	case n > 2 && parts[n-2] == "manifests":
		rt.end, rt.ref = endManifest, parts[n-1]
	case n > 2 && parts[n-2] == "referrers":
		rt.end, rt.ref = endReferrers, parts[n-1]
	case n > 2 && parts[n-2] == "blobs" && parts[n-1] == "uploads":
		rt.end = endUploads
	case n > 3 && parts[n-3] == "blobs" && parts[n-2] == "uploads":
		rt.end, rt.ref, cut = endUpload, parts[n-1], 3
		if rt.ref == "" {
			rt.end = endUploads
		}
	case n > 2 && parts[n-2] == "blobs":
		rt.end, rt.ref = endBlob, parts[n-1]
	default:
		return route{}, errorf(http.StatusNotFound, codeUnsupported, "no such endpoint")
	}
	rt.asked = strings.Join(parts[:n-cut], "/")
	name, err := parseName(rt.asked)
	if err != nil {
		return route{}, err
	}
	rt.name = name
	return rt, nil
}

// parseName reads a repository name and makes it canonical.
func parseName(s string) (core.Name, *apiError) {
	if len(s) > maxName || !namePattern.MatchString(s) {
		return core.Name{}, errorf(http.StatusBadRequest, codeNameInvalid, "invalid repository name")
	}
	name, err := core.ParseName(s)
	if err != nil {
		return core.Name{}, &apiError{status: http.StatusBadRequest, code: codeNameInvalid, message: err.Error()}
	}
	if len(name.String()) > maxName {
		return core.Name{}, errorf(http.StatusBadRequest, codeNameInvalid, "the repository name is longer than %d characters", maxName)
	}
	return name, nil
}

// parseDigest accepts the algorithms that we can verify: sha256 and sha512.
func parseDigest(s string) (digest.Digest, *apiError) {
	d, err := digest.Parse(s)
	if err != nil || (d.Algorithm() != digest.SHA256 && d.Algorithm() != digest.SHA512) {
		return "", errorf(http.StatusBadRequest, codeDigestInvalid, "invalid digest: want sha256:HEX or sha512:HEX")
	}
	return d, nil
}

// path is the canonical path, as distribution is asked.
func (rt route) path() string {
	base := "/v2/" + rt.name.String()
	switch rt.end {
	case endTags:
		return base + "/tags/list"
	case endManifest:
		return base + "/manifests/" + rt.ref
	case endBlob:
		return base + "/blobs/" + rt.ref
	case endUploads:
		return base + "/blobs/uploads/"
	case endUpload:
		return base + "/blobs/uploads/" + rt.ref
	case endReferrers:
		return base + "/referrers/" + rt.ref
	default:
		return "/v2/"
	}
}

// inner is r as distribution is to see it: the canonical path, the query
// that we allow, and never a form: distribution's FormValue would take
// "from" out of a form body, past authorization.
func (rt route) inner(r *http.Request, query url.Values) *http.Request {
	out := r.Clone(r.Context())
	out.URL = &url.URL{Path: rt.path(), RawQuery: query.Encode()}
	out.RequestURI = out.URL.RequestURI()
	out.Form, out.PostForm, out.MultipartForm = nil, nil, nil
	out.Header.Del("Authorization")
	if rt.end == endUploads || rt.end == endUpload {
		out.Header.Set("Content-Type", "application/octet-stream")
	}
	return out
}
