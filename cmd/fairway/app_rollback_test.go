package main

import (
	"strings"
	"testing"

	"github.com/fairway-cd/fairway/internal/controller"
)

// TestNothingToRestore: where a delivery in error has no branch, none is named.
func TestNothingToRestore(t *testing.T) {
	for branch, want := range map[string]string{
		"":     "sig reads what it read at ab33040: nothing to restore\n",
		"main": "sig reads in main what it read at ab33040: nothing to restore\n",
	} {
		var out strings.Builder
		printRollback(&out, "sig", controller.RollbackResult{Revision: "ab33040c0ffeec0ffeec0ffeec0ffeec0ffeec0f", Branch: branch})
		if out.String() != want {
			t.Errorf("got %q, want %q", out.String(), want)
		}
	}
}
