package controller

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// awayRetry is the longest pause of what failed because the API server was not
// well: how long it was so says nothing of how long it will be.
const awayRetry = 20 * time.Second

// again is the pause after the nth failure in a row.
func (h *helmReleaseRun) again(n int, err error) time.Duration {
	if unwell(err) {
		return retryAfter(n, min(h.interval(), awayRetry))
	}
	return retryAfter(n, h.interval())
}

// unwell says that it was the API server that could not do what it was asked.
func unwell(err error) bool {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		code := status.Status().Code
		return code >= http.StatusInternalServerError || code == http.StatusTooManyRequests
	}
	return errors.As(err, new(*url.Error))
}
