package controller

import (
	"slices"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"

	"github.com/fairway-cd/fairway/internal/release"
)

// live drops from the history what is of a former life of the release, of which
// last is the newest revision, or nil. Somebody who uninstalls it beside us
// has its revisions begin at 1 again: the former ones would stay above these
// for ever, and there would be no revision to go back to. All revisions of one
// life have the time of its installation (Helm's FirstDeployed).
func (h *helmReleaseRun) live(last *release.Record) {
	st := &h.hr.Status
	if last == nil {
		st.ClearHistory()
		return
	}
	installed := last.Info.FirstDeployed.Unix()
	st.History = slices.DeleteFunc(st.History, func(s *helmv2.Snapshot) bool {
		return s.Targets(last.Name, last.Namespace, s.Version) &&
			(s.Version > last.Version || !s.FirstDeployed.IsZero() && s.FirstDeployed.Unix() != installed)
	})
}
