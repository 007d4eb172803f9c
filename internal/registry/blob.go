package registry

import (
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/fairway-cd/fairway/internal/core"
)

// streamBlob serves GET, with ranges.
func (g *Registry) streamBlob(w http.ResponseWriter, r *http.Request, rt route) *apiError {
	d, bad := parseDigest(rt.ref)
	if bad != nil {
		return bad
	}
	there, err := g.store.exists(r.Context(), layerPath(rt.name, d)+"/link")
	if err != nil {
		return internalError(err)
	} else if !there {
		return errorf(http.StatusNotFound, codeBlobUnknown, "no such blob")
	}
	// distribution would name the digest under which it keeps the blob.
	w.Header().Set("Docker-Content-Digest", d.String())
	g.app.ServeHTTP(w, rt.inner(r, nil))
	return nil
}

// headBlob serves HEAD, which is how a client finds out that it need not push
// a blob: the blob counts as used from then on.
func (g *Registry) headBlob(r *http.Request, rt route) (*answer, *apiError) {
	d, bad := parseDigest(rt.ref)
	if bad != nil {
		return nil, bad
	}
	defer g.locks.rely(rt.name)()
	a := g.ask(r, rt, nil)
	if a.ok() {
		a.header.Set("Docker-Content-Digest", d.String())
		if err := g.useBlob(r, rt.name, d); err != nil {
			return nil, internalError(err)
		}
	}
	return a, nil
}

// deleteBlob takes a blob out of the repository; its content goes when no
// repository has it.
func (g *Registry) deleteBlob(r *http.Request, rt route) (*answer, *apiError) {
	if _, bad := parseDigest(rt.ref); bad != nil {
		return nil, bad
	}
	defer g.locks.change(rt.name)()
	return g.ask(r, rt, nil), nil
}

// useBlob marks a blob of a repository as used now. The caller has
// the repository's lock.
func (g *Registry) useBlob(r *http.Request, n core.Name, d digest.Digest) error {
	return g.use(r, layerPath(n, d))
}

// use marks the link in dir, and the content that it leads to, as used now,
// which keeps both from garbage collection for the minimum age.
func (g *Registry) use(r *http.Request, dir string) error {
	target, err := g.store.link(r.Context(), dir+"/link")
	if isMissing(err) {
		return nil
	} else if err != nil {
		return err
	}
	if err := g.store.touch(dir + "/link"); err != nil {
		return err
	}
	return g.store.touch(blobPath(target) + "/data")
}
