package e2e

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// clock is the wall clock of one running process, which a test can set without
// touching the machine's. A static program cannot be preloaded into, and time
// namespaces have no wall clock; but every process has pages of its own of the
// kernel's vDSO, through which Go reads the time. Their clock_gettime is
// replaced by one that asks the kernel, and adds to CLOCK_REALTIME what the
// test has written behind it. CLOCK_MONOTONIC, and so timers, go on as they do
// where an administrator or NTP sets a clock.
type clock struct {
	pid    int
	offset int64 // where in memory the seconds are that are added
}

// shiftedGettime is clock_gettime for amd64, with the offset behind it.
var shiftedGettime = []byte{
	0xb8, 0xe4, 0x00, 0x00, 0x00, // mov eax, SYS_clock_gettime
	0x0f, 0x05, // syscall
	0x85, 0xff, // test edi, edi: CLOCK_REALTIME is 0
	0x75, 0x0a, // jne to ret
	0x48, 0x8b, 0x0d, 0x04, 0x00, 0x00, 0x00, // mov rcx, [rip+4]
	0x48, 0x01, 0x0e, // add [rsi], rcx
	0xc3, // ret
}

// clockOf takes the clock of a process over.
func clockOf(t *testing.T, pid int) *clock {
	t.Helper()
	if runtime.GOARCH != "amd64" || runtime.GOOS != "linux" {
		t.Skip("a process' clock can be set on Linux on amd64 only")
	}
	from, to := vdsoOf(t, pid)
	code := make([]byte, to-from)
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if errors.Is(err, os.ErrPermission) {
		t.Skip("setting a process' clock takes permission to trace it")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	if _, err := mem.ReadAt(code, from); err != nil {
		t.Fatal(err)
	}
	at := from + gettimeIn(t, code)
	c := &clock{pid: pid, offset: at + int64(len(shiftedGettime))}
	// Nobody may be in the middle of what is replaced.
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }()
	for inside(t, pid, from, to) {
		_ = syscall.Kill(pid, syscall.SIGCONT)
		time.Sleep(time.Millisecond)
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := mem.WriteAt(append(bytes.Clone(shiftedGettime), make([]byte, 8)...), at); err != nil {
		t.Fatal(err)
	}
	return c
}

// jump sets the process' wall clock to be off by d from now on.
func (c *clock) jump(t *testing.T, d time.Duration) {
	t.Helper()
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", c.pid), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	if _, err := mem.WriteAt(binary.LittleEndian.AppendUint64(nil, uint64(int64(d/time.Second))), c.offset); err != nil {
		t.Fatal(err)
	}
}

// vdsoOf is where a process has the kernel's vDSO.
func vdsoOf(t *testing.T, pid int) (from, to int64) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		if strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			if _, err := fmt.Sscanf(line, "%x-%x", &from, &to); err != nil {
				t.Fatal(err)
			}
			return from, to
		}
	}
	t.Skip("the kernel gives processes no vDSO")
	return 0, 0
}

// gettimeIn is where in the vDSO clock_gettime is.
func gettimeIn(t *testing.T, code []byte) int64 {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(code))
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if s.Name == "__vdso_clock_gettime" {
			if s.Size < uint64(len(shiftedGettime)+8) {
				t.Fatalf("clock_gettime has %d bytes only", s.Size)
			}
			return int64(s.Value)
		}
	}
	t.Fatal("the vDSO has no clock_gettime")
	return 0
}

// inside says whether a thread of a process that is being stopped runs still,
// or has stopped in there.
func inside(t *testing.T, pid int, from, to int64) bool {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
	if err != nil || len(tasks) == 0 {
		t.Fatalf("no threads of %d: %v", pid, err)
	}
	for _, task := range tasks {
		data, err := os.ReadFile(task)
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(data))
		if len(fields) < 2 { // "running"
			return true
		}
		pc, err := strconv.ParseInt(strings.TrimPrefix(fields[len(fields)-1], "0x"), 16, 64)
		if err != nil || pc >= from && pc < to {
			return true
		}
	}
	return false
}
