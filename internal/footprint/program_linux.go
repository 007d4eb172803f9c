package footprint

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// programSpans are where the program's file is mapped, and is in memory as it
// is in the file: code, constants, and tables of the runtime. The kernel can
// read these again at any time. What a linker has relocated is not among them,
// although it may be read only by now. Where the kernel does not say where
// they are there are none.
func programSpans() []span {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return nil
	}
	defer f.Close()
	var spans []span
	var s span // the mapping that is read about
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// proc(5): address perms offset dev inode pathname, then Key: N kB
		fields := strings.SplitN(lines.Text(), " ", 6)
		switch {
		case !strings.HasSuffix(fields[0], ":"):
			s = span{}
			if len(fields) < 6 || strings.TrimLeft(fields[5], " ") != self || strings.Contains(fields[1], "w") {
				continue
			}
			if _, err := fmt.Sscanf(fields[0], "%x-%x", &s.from, &s.to); err != nil {
				s = span{}
			}
		case fields[0] == "Anonymous:" && s.from < s.to && strings.TrimLeft(lines.Text()[len(fields[0]):], " ") == "0 kB":
			spans = append(spans, s)
		}
	}
	return spans
}

// release drops the mapping's pages. They are read from the file again, so that
// there must be none that was written to: madvise(2).
func (s span) release() {
	_, _, _ = unix.Syscall(unix.SYS_MADVISE, s.from, s.to-s.from, unix.MADV_DONTNEED)
}

// pageFaults is how many pages, or runs of them, were mapped since the process
// began.
func pageFaults() uint64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return uint64(max(0, u.Minflt))
}
