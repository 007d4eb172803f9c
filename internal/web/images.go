package web

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
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

// ErrBusy says that what is asked for is under way already.
var ErrBusy = errors.New("under way already")

// Collect collects the registry's garbage. An error that satisfies
// errors.Is(err, ErrBusy) says that somebody else does.
type Collect func(ctx context.Context, minAge time.Duration, dryRun bool) (CollectReport, error)

// ImageRoutes are the API's routes for images:
//
//	POST /api/v1/images/collect {"minAge": "24h", "dryRun": false}
func ImageRoutes(access core.Access, collect Collect) map[string]http.Handler {
	i := &images{access, collect}
	return map[string]http.Handler{"POST /api/v1/images/collect": http.HandlerFunc(i.serveCollect)}
}

type images struct {
	access  core.Access
	collect Collect
}

// serveCollect takes out of every namespace, so it takes the right to delete
// images everywhere.
func (i *images) serveCollect(w http.ResponseWriter, r *http.Request) {
	user, err := i.access.Authenticate(r)
	if err == nil {
		err = i.access.Authorize(r.Context(), user, core.Action{Verb: "delete", Group: core.Group, Resource: core.ResourceImages})
	}
	if err != nil {
		refuse(w, err)
		return
	}
	var in CollectRequest
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil && !errors.Is(err, io.EOF) {
		writeError(w, http.StatusBadRequest, "reading the request: "+err.Error())
		return
	}
	var minAge time.Duration
	if in.MinAge != "" {
		if minAge, err = time.ParseDuration(in.MinAge); err != nil || minAge <= 0 {
			writeError(w, http.StatusBadRequest, "minAge is not a positive duration such as 24h")
			return
		}
	}
	report, err := i.collect(r.Context(), minAge, in.DryRun)
	switch {
	case errors.Is(err, ErrBusy):
		writeError(w, http.StatusConflict, "the registry's garbage is being collected already")
	case err != nil:
		refuse(w, err)
	default:
		writeJSON(w, report)
	}
}
