//go:build linux

package footprint

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// resident is what of this process is in memory, in bytes: of the program's
// file, and of all else.
func resident(t *testing.T) (program, rest int64) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "RssFile: %d kB", &kib); n == 1 {
			program = kib << 10
		}
		if n, _ := fmt.Sscanf(line, "RssAnon: %d kB", &kib); n == 1 {
			rest = kib << 10
		}
	}
	return program, rest
}

func TestRelease(t *testing.T) {
	m := Own()
	if len(m.program) == 0 {
		t.Fatal("the program's file is not found")
	}
	touch(t, m.program)
	program, rest := burst(t)
	m.Release()
	programAfter, restAfter := resident(t)
	if rest-restAfter < 48<<20 {
		t.Errorf("of a burst of 64 MiB, %d MiB were given back", (rest-restAfter)>>20)
	}
	// What the test itself needs is back by now: of its 3 MiB about a half.
	if program-programAfter < 512<<10 {
		t.Errorf("%d KiB of the program's file were in memory, and %d still are", program>>10, programAfter>>10)
	}
}

// burst leaves 64 MiB behind, and says what was resident with them.
func burst(t *testing.T) (program, rest int64) {
	t.Helper()
	list := make([][]byte, 64)
	for i := range list {
		list[i] = bytes.Repeat([]byte{byte(i)}, 1<<20)
	}
	program, rest = resident(t)
	runtime.KeepAlive(list)
	return program, rest
}

// touch has the parts of the address space mapped.
func touch(t *testing.T, spans []span) {
	t.Helper()
	memory, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	for _, s := range spans {
		if _, err := memory.ReadAt(make([]byte, s.to-s.from), int64(s.from)); err != nil {
			t.Fatal(err)
		}
	}
}

// Whatever is given back, the program works on: on what it has in memory and
// on what is read again from its file, from several threads at a time.
func TestReleaseWhileWorking(t *testing.T) {
	stop, done := make(chan struct{}), make(chan error, 4)
	for range cap(done) {
		go func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					done <- nil
					return
				default:
				}
				text := fmt.Sprintf("%d:%s", n, strings.Repeat("x", n%100))
				if !regexp.MustCompile(`^\d+:x*$`).MatchString(text) {
					done <- fmt.Errorf("%q does not match", text)
					return
				}
			}
		}()
	}
	m := Own()
	for range 100 {
		m.Release()
	}
	close(stop)
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// A process that has nothing to give back is left alone.
func TestTrimOnlyWhatIsWorthIt(t *testing.T) {
	m := Own()
	m.Trim(true)
	if m.held == 0 {
		t.Fatal("what the start has left was not given back")
	}
	before := collections()
	m.Trim(true)
	if n := collections() - before; n > 0 {
		t.Errorf("%d collections for nothing", n)
	}
	burst(t)
	before = collections()
	m.Trim(true)
	if collections() == before {
		t.Error("nothing was given back after a burst")
	}
}

// A linker writes to pages of the program, and forbids it to everybody
// afterwards: these are not in the file.
func TestWrittenPagesAreNotTheProgram(t *testing.T) {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := unix.Mmap(int(f.Fd()), 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(m) }()
	m[4711]++
	if err := unix.Mprotect(m, unix.PROT_READ); err != nil {
		t.Fatal(err)
	}
	written := m[4711]
	Own().Release()
	if m[4711] != written {
		t.Errorf("a byte that was written is %d again, not %d", m[4711], written)
	}
}
