package footprint

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// programSpans are where the program's file is mapped to be read only: code,
// constants, and tables of the runtime. The kernel can read these again at any
// time. Where it does not say where they are there are none.
func programSpans() []span {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil
	}
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return nil
	}
	defer f.Close()
	var spans []span
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// proc(5): address perms offset dev inode pathname
		fields := strings.SplitN(lines.Text(), " ", 6)
		if len(fields) < 6 || strings.TrimLeft(fields[5], " ") != self || strings.Contains(fields[1], "w") {
			continue
		}
		var s span
		if _, err := fmt.Sscanf(fields[0], "%x-%x", &s.from, &s.to); err == nil && s.from < s.to {
			spans = append(spans, s)
		}
	}
	return spans
}

// release drops the mapping's pages. A private mapping that cannot be written
// has nothing that is not in the file: madvise(2).
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
