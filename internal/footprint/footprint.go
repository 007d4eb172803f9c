// Package footprint gives back to the system the memory that a process holds
// and does not need: what a burst of work has left of the heap, and the pages
// of the program's own file. Of a program of a hundred megabytes the start
// touches two thirds, and most of that never again.
package footprint

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Memory is that of this process. It is not safe for concurrent use.
type Memory struct {
	program []span
	// held and faults are what they were when something was given back.
	held, faults uint64
}

// span is a part of the address space.
type span struct{ from, to uintptr }

// Own finds the memory of this process. It reads files, so that a process
// which is about to forbid itself that calls it before.
func Own() *Memory { return &Memory{program: programSpans()} }

const (
	// quiet is how long nothing must go on for a burst of work to be over, and
	// rest how long for the program's pages not to be needed soon: to map them
	// again costs ten milliseconds and more of the next small job.
	quiet = time.Second
	rest  = 15 * time.Second
	// spare is how much the runtime may hold more than it must before it is
	// worth a garbage collection to give it back.
	spare = 8 << 20
	// spareFaults is the same for the program's file. A fault maps up to 64 KiB.
	spareFaults = 200
)

// Keep gives back what each burst of work has left, until ctx ends. While
// nothing happens it costs nothing but to find that out, once a second.
func (m *Memory) Keep(ctx context.Context) {
	tick := time.NewTicker(quiet)
	defer tick.Stop()
	var cycles, faults uint64
	var since time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if c, f := collections(), pageFaults(); c != cycles || f >= faults+spareFaults/10 {
			cycles, faults, since = c, f, time.Now()
			continue
		}
		m.Trim(time.Since(since) >= rest)
		cycles, faults = collections(), pageFaults()
	}
}

// Trim gives back what is worth it: of the heap, and, where the process is at
// rest, of the program.
func (m *Memory) Trim(resting bool) {
	first := m.held == 0
	if first || held() >= m.held+spare {
		m.releaseHeap()
	}
	if first || resting && pageFaults() >= m.faults+spareFaults {
		m.releaseProgram()
	}
}

// Release gives back all that can be. It costs a garbage collection, and that
// the pages of the program that are used are mapped again.
func (m *Memory) Release() {
	m.releaseHeap()
	m.releaseProgram()
}

func (m *Memory) releaseHeap() {
	debug.FreeOSMemory()
	m.held = held()
}

func (m *Memory) releaseProgram() {
	for _, s := range m.program {
		s.release()
	}
	m.faults = pageFaults()
}

// held is what the runtime has of the system's memory.
func held() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64() - s[1].Value.Uint64()
}

// collections is how many garbage collections there were.
func collections() uint64 {
	s := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
