package controller

import (
	"strings"

	"github.com/fairway-cd/fairway/internal/core"
)

// ImagePushed wakes those, and only those, who read charts or artifacts of the
// repository of our own registry to which something was pushed. It does not
// block, and telling twice does no harm.
func (e *Engine) ImagePushed(push core.ImagePush) {
	if e.stages.Packages == nil || push.Subject != "" { // evidence about an image
		return
	}
	of := func(url string) bool {
		name, own := e.stages.Packages.Own(url)
		return own && name == push.Image.Repository
	}
	for _, key := range e.helm.charts.byURL.on(of) {
		e.helm.charts.wake.wake(key, sourceMoved)
	}
	for _, key := range e.helm.artifacts.byURL.on(of) {
		e.helm.artifacts.wake.wake(key, sourceMoved)
	}
}

// chartURL is the repository of a registry that holds a chart.
func chartURL(repository, chart string) string {
	return strings.TrimSuffix(repository, "/") + "/" + chart
}
