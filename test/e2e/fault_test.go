package e2e

import "testing"

// Each fault is made for a moment, while a commit and drift come.
func TestFaults(t *testing.T) {
	if soak() {
		t.Skip("the soak does the same for longer")
	}
	faults(t)
}

// Each fault lasts for minutes, or is made often.
func TestSoakFaults(t *testing.T) {
	if !soak() {
		t.Skip("FAIRWAY_SOAK is not set: TestFaults does the same for a moment")
	}
	faults(t)
}

// faults makes one fault after the other to one instance. After each, all is
// as Git has it: nothing is lost, nothing orphaned.
func faults(t *testing.T) {
	r := newFaultRig(t)
	for _, fault := range []struct {
		name string
		make func(*faultRig, *testing.T)
	}{
		{"killed", (*faultRig).killed},
		{"API server slow", (*faultRig).slow},
		{"API server refuses", (*faultRig).refuses},
		{"API server unreachable", (*faultRig).unreachable},
		{"watches dropped", (*faultRig).dropped},
		{"API server restarted", (*faultRig).restarted},
		{"Git server away", (*faultRig).gitAway},
		{"clock jumps", (*faultRig).clockJumps},
		{"disk full", (*faultRig).diskFull},
	} {
		t.Run(fault.name, func(t *testing.T) { fault.make(r, t) })
	}
	t.Logf("what came of the faults:\n%s", r.report.table())
}
