package identity

import (
	"errors"
	"fmt"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/fairway-cd/fairway/internal/core"
)

func TestFailuresOfOneAddressAreLimited(t *testing.T) {
	clock := clocktesting.NewFakePassiveClock(time.Now())
	f := newFailures(Options{FailureBurst: 3, Clock: clock}.withDefaults())
	const bad, good = "192.0.2.1:1000", "192.0.2.2:1000"
	for range 3 {
		if err := f.check(bad); err != nil {
			t.Fatalf("refused before the limit: %v", err)
		}
		f.add(bad)
	}
	err := f.check("192.0.2.1:2000")
	var throttled *ThrottledError
	if !errors.As(err, &throttled) || !errors.Is(err, core.ErrUnauthenticated) {
		t.Fatalf("got %v", err)
	}
	if err := f.check(good); err != nil {
		t.Errorf("another address is refused: %v", err)
	}
	clock.SetTime(clock.Now().Add(time.Second))
	if err := f.check(bad); err != nil {
		t.Errorf("still refused when a failure was earned back: %v", err)
	}
}

func TestFailuresAreBounded(t *testing.T) {
	o := Options{Entries: 10}.withDefaults()
	f := newFailures(o)
	for i := range 100 {
		f.add(fmt.Sprintf("192.0.2.%d:1", i))
	}
	if n := len(f.buckets.Keys()); n > 10 {
		t.Errorf("%d addresses are kept", n)
	}
}

func TestSource(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1:80":              "192.0.2.1",
		"[::ffff:192.0.2.1]:80":     "192.0.2.1",
		"[2001:db8:1:2:3:4:5:6]:80": "2001:db8:1:2::/64",
		"[2001:db8:1:2:ffff::1]:80": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:80":         "fe80::/64",
		"@":                         "@",
	} {
		if got := source(remote); got != want {
			t.Errorf("%s: got %q, want %q", remote, got, want)
		}
	}
}
