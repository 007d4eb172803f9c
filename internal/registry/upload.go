package registry

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"

	"github.com/opencontainers/go-digest"

	"github.com/fairway-cd/fairway/internal/core"
)

// startUpload serves POST: it opens an upload session, mounts a blob from
// another repository, or takes a whole blob at once.
func (g *Registry) startUpload(r *http.Request, rt route, user core.User) (*answer, *apiError) {
	query := r.URL.Query()
	if bad := g.admit(r.Context(), rt.name); bad != nil {
		return nil, bad
	}
	if a, bad := g.mount(r, rt, user, query.Get("mount"), query.Get("from")); a != nil || bad != nil {
		return a, bad
	}
	want := query.Get("digest")
	if want != "" {
		if _, bad := parseDigest(want); bad != nil {
			return nil, bad
		}
	}
	open, err := g.store.names(r.Context(), uploadsPath(rt.name))
	if err != nil {
		return nil, internalError(err)
	}
	if len(open) >= g.limits.Uploads {
		return nil, &apiError{status: http.StatusTooManyRequests, code: codeTooManyRequests,
			message: fmt.Sprintf("the repository has %d uploads open, which is the limit", len(open)), retryAfter: 60}
	}
	start := r
	if want != "" {
		start = withoutBody(r)
	}
	a := g.ask(start, rt, nil)
	if want == "" || a.status != http.StatusAccepted {
		return a, nil
	}
	session, state, err := uploadOf(a)
	if err != nil {
		return nil, internalError(err)
	}
	rt.end, rt.ref = endUpload, session
	release, ok := g.uploads.try(rt.ref)
	if !ok {
		return nil, internalError(errors.New("a new upload is in use"))
	}
	defer release()
	return g.finishUpload(r, rt, state, want)
}

// mount links a blob of another repository into this one. The answer is nil
// where it cannot, for whatever reason: the client then uploads, and learns
// nothing about a repository that it may not read.
func (g *Registry) mount(r *http.Request, rt route, user core.User, blob, from string) (*answer, *apiError) {
	if blob == "" || from == "" {
		return nil, nil
	}
	d, bad := parseDigest(blob)
	if bad != nil {
		return nil, bad
	}
	source, bad := parseName(from)
	if bad != nil {
		return nil, bad
	}
	if d.Algorithm() != digest.SHA256 { // kept under its sha256, which only a look at the content tells
		return nil, nil
	}
	if err := g.allowed(r.Context(), user, "get", source); err != nil {
		var forbidden *core.ForbiddenError
		if errors.As(err, &forbidden) {
			return nil, nil
		}
		return nil, accessError(err)
	}
	defer g.locks.rely(rt.name)()
	defer g.locks.content(d)()
	if there, err := g.store.exists(r.Context(), layerPath(source, d)+"/link"); err != nil {
		return nil, internalError(err)
	} else if !there {
		return nil, nil
	}
	a := g.ask(withoutBody(r), rt, url.Values{"mount": {blob}, "from": {source.String()}})
	if a.status == http.StatusCreated {
		if err := g.useBlob(r, rt.name, d); err != nil {
			return nil, internalError(err)
		}
	}
	return a, nil
}

// continueUpload serves the requests on an upload session.
func (g *Registry) continueUpload(r *http.Request, rt route) (*answer, *apiError) {
	if !uploadPattern.MatchString(rt.ref) {
		return nil, errorf(http.StatusNotFound, codeBlobUploadUnknown, "no such upload")
	}
	query := r.URL.Query()
	state := query.Get("_state")
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return g.ask(r, rt, nil), nil
	}
	release, ok := g.uploads.try(rt.ref)
	if !ok {
		return nil, &apiError{status: http.StatusTooManyRequests, code: codeTooManyRequests,
			message: "another request is writing to this upload", retryAfter: 1}
	}
	defer release()
	if _, err := g.store.Stat(r.Context(), uploadsPath(rt.name)+"/"+rt.ref+"/startedat"); isMissing(err) {
		return nil, errorf(http.StatusNotFound, codeBlobUploadUnknown, "no such upload")
	} else if err != nil {
		return nil, internalError(err)
	}
	switch r.Method {
	case http.MethodPut:
		return g.finishUpload(r, rt, state, query.Get("digest"))
	case http.MethodPatch:
		return g.appendUpload(r, rt, state)
	default:
		return g.ask(r, rt, url.Values{"_state": {state}}), nil
	}
}

// appendUpload adds the body to the upload. The caller holds the upload.
func (g *Registry) appendUpload(r *http.Request, rt route, state string) (*answer, *apiError) {
	size := int64(0)
	if info, err := g.store.Stat(r.Context(), uploadsPath(rt.name)+"/"+rt.ref+"/data"); err == nil {
		size = info.Size()
	} else if !isMissing(err) {
		return nil, internalError(err)
	}
	if bad := checkRange(r, size); bad != nil {
		return nil, bad
	}
	limited, _ := r.Body.(*body)
	if limited != nil {
		limited.left = max(0, g.limits.BlobBytes-size)
	}
	tooLarge := errorf(http.StatusRequestEntityTooLarge, codeSizeInvalid, "the blob is larger than %d bytes", g.limits.BlobBytes)
	if r.ContentLength > g.limits.BlobBytes-size {
		return nil, tooLarge
	}
	r.Header.Del("Content-Range") // checked; distribution checks less
	patch := r
	if r.Method != http.MethodPatch {
		patch = r.Clone(r.Context())
		patch.Method = http.MethodPatch
	}
	a := g.ask(patch, rt, url.Values{"_state": {state}})
	switch {
	case limited != nil && limited.over:
		return nil, tooLarge
	case limited != nil && errors.Is(limited.err, os.ErrDeadlineExceeded):
		return nil, errorf(http.StatusRequestTimeout, codeBlobUploadInvalid, "nothing was received for %s", g.limits.Idle)
	}
	return a, nil
}

// finishUpload adds the body, if any, and makes the upload a blob, if it has
// the digest. The caller holds the upload.
func (g *Registry) finishUpload(r *http.Request, rt route, state, want string) (*answer, *apiError) {
	d, bad := parseDigest(want)
	if bad != nil {
		return nil, bad
	}
	// The body first, so that no lock is held while a client sends.
	if r.ContentLength != 0 {
		a, bad := g.appendUpload(r, rt, state)
		if bad != nil || !a.ok() {
			return a, bad
		}
		var err error
		if _, state, err = uploadOf(a); err != nil {
			return nil, internalError(err)
		}
	}
	stored := []digest.Digest{d}
	if d.Algorithm() != digest.SHA256 {
		canonical, err := g.hashUpload(r, rt)
		if err != nil {
			return nil, internalError(err)
		}
		stored = append(stored, canonical)
	}
	defer g.locks.rely(rt.name)()
	defer g.locks.content(stored...)()
	commit := withoutBody(r)
	commit.Method = http.MethodPut
	a := g.ask(commit, rt, url.Values{"_state": {state}, "digest": {d.String()}})
	if a.status == http.StatusCreated {
		a.header.Set("Docker-Content-Digest", d.String())
		a.header.Set("Location", route{end: endBlob, name: rt.name, ref: d.String()}.path())
		if err := g.useBlob(r, rt.name, d); err != nil {
			return nil, internalError(err)
		}
	}
	return a, nil
}

// hashUpload returns the digest under which the content of an upload will be
// kept.
func (g *Registry) hashUpload(r *http.Request, rt route) (digest.Digest, error) {
	content, err := g.store.Reader(r.Context(), uploadsPath(rt.name)+"/"+rt.ref+"/data", 0)
	if isMissing(err) {
		return digest.SHA256.FromBytes(nil), nil
	} else if err != nil {
		return "", err
	}
	defer func() { _ = content.Close() }() // opened for reading
	return digest.SHA256.FromReader(io.Reader(content))
}

// rangePattern is Content-Range as the specification has it: "FROM-TO",
// both included, without a unit.
var rangePattern = regexp.MustCompile(`^([0-9]{1,18})-([0-9]{1,18})$`)

// checkRange holds a chunk against what was received. A chunk that does not
// begin where the last one ended is 416.
func checkRange(r *http.Request, size int64) *apiError {
	header := r.Header.Get("Content-Range")
	if header == "" {
		return nil
	}
	m := rangePattern.FindStringSubmatch(header)
	if m == nil {
		return errorf(http.StatusBadRequest, codeBlobUploadInvalid, "the Content-Range is not FROM-TO")
	}
	from, _ := strconv.ParseInt(m[1], 10, 64) // at most 18 digits
	to, _ := strconv.ParseInt(m[2], 10, 64)
	if from != size || to < from {
		return errorf(http.StatusRequestedRangeNotSatisfiable, codeBlobUploadInvalid,
			"the chunk is out of order: the upload has %d bytes", size)
	}
	if r.ContentLength >= 0 && r.ContentLength != to-from+1 {
		return errorf(http.StatusBadRequest, codeSizeInvalid, "the Content-Range is not as long as the body")
	}
	return nil
}

// uploadOf reads the session and its state out of the Location that
// distribution answered with.
func uploadOf(a *answer) (session, state string, err error) {
	location, err := url.Parse(a.header.Get("Location"))
	if err != nil {
		return "", "", fmt.Errorf("reading the location of an upload: %w", err)
	}
	rt, bad := parseRoute(location.Path)
	if bad != nil || rt.end != endUpload {
		return "", "", fmt.Errorf("the location of an upload is %q", location.Path)
	}
	return rt.ref, location.Query().Get("_state"), nil
}

func withoutBody(r *http.Request) *http.Request {
	out := r.Clone(r.Context())
	out.Body = http.NoBody
	out.ContentLength = 0
	out.Header.Del("Content-Length")
	out.Header.Del("Content-Range")
	return out
}
