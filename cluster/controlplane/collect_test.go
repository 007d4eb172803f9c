package controlplane

import "testing"

func TestPace(t *testing.T) {
	p := pace{busy: true}
	var cycles uint64
	step := func(n uint64, want bool) {
		t.Helper()
		cycles += n
		if got := p.look(cycles); got != want {
			t.Errorf("after %d collections in all, busy is %v", cycles, got)
		}
	}
	step(3, true) // the start
	for range restAfter - 1 {
		step(0, true)
	}
	step(0, false)
	step(1, false) // one now and then is no burst
	step(0, false)
	step(2, true)
	step(1, true)
	for range restAfter - 1 {
		step(0, true)
	}
	step(0, false)
}
