package testkit

import (
	"testing"
	"time"
)

const (
	// eventuallyTimeout only ends tests that would hang: no test waits for it
	// in order to pass.
	eventuallyTimeout  = time.Minute
	eventuallyInterval = 20 * time.Millisecond
)

// Eventually returns when check does without an error, and fails the test with
// the last error where that does not happen within a minute.
func Eventually(tb testing.TB, what string, check func() error) {
	tb.Helper()
	deadline := time.Now().Add(eventuallyTimeout)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) || tb.Context().Err() != nil {
			tb.Fatalf("waiting for %s: %v", what, err)
		}
		time.Sleep(eventuallyInterval)
	}
}
