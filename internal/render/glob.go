package render

import (
	"fmt"

	"github.com/gobwas/glob"
)

// maxGlob bounds a pattern: alternatives in braces multiply.
const maxGlob = 1024

// newGlob compiles a pattern as Argo CD does: "*" matches "/" too, and
// "{a,b}" is either. It is nil for the empty pattern.
func newGlob(what, pattern string) (g glob.Glob, err error) {
	if pattern == "" {
		return nil, nil
	}
	if len(pattern) > maxGlob {
		return nil, NewError(LimitExceeded, "", 0, "the %s pattern is longer than %d bytes", what, maxGlob)
	}
	defer func() {
		// The library's parser has panicked on odd input before.
		if r := recover(); r != nil {
			g, err = nil, fmt.Errorf("%v", r)
		}
		if err != nil {
			g, err = nil, NewError(BuildFailed, "", 0, "the %s pattern %q is not valid: %v", what, pattern, err)
		}
	}()
	return glob.Compile(pattern)
}
