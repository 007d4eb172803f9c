package web

import (
	"context"
	"net/http"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/problem"
)

// CollectRequest says what the registry's garbage collection may take.
type CollectRequest struct {
	// MinAge is a Go duration: how long something must not have been used.
	// Empty is the registry's own, which is longer than any push.
	MinAge string `json:"minAge,omitempty"`
	// DryRun only reports.
	DryRun bool `json:"dryRun,omitempty"`
}

// CollectReport says what was collected, or in a dry run would be.
type CollectReport struct {
	// Manifests are as NAMESPACE/NAME@DIGEST.
	Manifests []string `json:"manifests"`
	Blobs     int      `json:"blobs"`
	Uploads   int      `json:"uploads"`
	Bytes     int64    `json:"bytes"`
}

// ErrBusy says that a collection is under way.
var ErrBusy = problem.New(http.StatusConflict, "the registry's garbage is being collected already")

// Collect collects the registry's garbage. An error that satisfies
// errors.Is(err, ErrBusy) says that somebody else does.
type Collect func(ctx context.Context, minAge time.Duration, dryRun bool) (CollectReport, error)

// ImageRoutes are the API's routes for images:
//
//	POST /api/v1/images/collect {"minAge": "24h", "dryRun": false}
func ImageRoutes(access core.Access, collect Collect) map[string]http.Handler {
	i := &images{access, collect}
	return map[string]http.Handler{"POST /api/v1/images/collect": answers(access, i.serve)}
}

type images struct {
	access  core.Access
	collect Collect
}

// serve takes out of every namespace, so it takes the right to delete images
// everywhere.
func (i *images) serve(r *http.Request, user core.User) (CollectReport, error) {
	a := core.Action{Verb: "delete", Group: core.Group, Resource: core.ResourceImages}
	if err := i.access.Authorize(r.Context(), user, a); err != nil {
		return CollectReport{}, err
	}
	var in CollectRequest
	if err := readJSON(r, &in); err != nil {
		return CollectReport{}, err
	}
	var minAge time.Duration
	if in.MinAge != "" {
		var err error
		if minAge, err = time.ParseDuration(in.MinAge); err != nil || minAge <= 0 {
			return CollectReport{}, problem.New(http.StatusBadRequest, "minAge is not a positive duration such as 24h")
		}
	}
	return i.collect(r.Context(), minAge, in.DryRun)
}
