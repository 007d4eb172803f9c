package app

import (
	"context"
	"slices"
	"strings"

	"github.com/fairway-cd/fairway/internal/core"
)

// pushed tells the engine, once there is one, of what was pushed to the
// registry. What was pushed before it has yet to look at.
func (s *stores) pushed(_ context.Context, p core.ImagePush) {
	if tell := s.imagePushed.Load(); tell != nil {
		(*tell)(p)
	}
}

// Own implements controller.Packages.
func (s *sources) Own(url string) (core.Name, bool) {
	rest, ok := strings.CutPrefix(url, "oci://")
	host, path, _ := strings.Cut(rest, "/")
	namespace, name, found := strings.Cut(path, "/")
	if !ok || !found || name == "" || !slices.Contains(s.own, host) {
		return core.Name{}, false
	}
	return core.Name{Namespace: namespace, Name: name}, true
}
