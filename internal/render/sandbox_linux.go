package render

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// nobody is the user and group that workers run as where we are root.
const nobody = 65534

// sandboxes are the ways to start a worker, the strictest first. Which of them
// works depends on who we are and what the kernel permits.
func sandboxes() []sandbox {
	own := sandbox{attr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}}
	netns := func(cred *syscall.Credential, flags uintptr) sandbox {
		return sandbox{
			attr:      &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true, Cloneflags: flags, Credential: cred},
			isolation: Isolation{Network: true, User: cred != nil},
		}
	}
	const spaces = syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS
	if os.Geteuid() == 0 {
		return []sandbox{
			netns(&syscall.Credential{Uid: nobody, Gid: nobody, Groups: []uint32{}}, spaces),
			netns(nil, spaces),
			own,
		}
	}
	return []sandbox{netns(nil, spaces|syscall.CLONE_NEWUSER), own}
}

// killGroup kills a worker and whatever it could have started.
func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }

// usage is the memory, in bytes, and the processor time that a process has
// taken.
func usage(pid int) (memory int64, cpu time.Duration, err error) {
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, 0, err
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(statm), &size, &resident); err != nil {
		return 0, 0, err
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	// The name, in parentheses, may hold anything. Then user and system time
	// are the 12th and 13th field, in hundredths of a second.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0, 0, fmt.Errorf("read /proc/%d/stat: %d fields", pid, len(fields))
	}
	for _, f := range fields[11:13] {
		ticks, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("read /proc/%d/stat: %w", pid, err)
		}
		cpu += time.Duration(ticks) * 10 * time.Millisecond
	}
	return resident * int64(os.Getpagesize()), cpu, nil
}

// limitProcess sets this process' own limits: no core, no growing files, few
// descriptors; the first to go where the machine has no memory left.
func limitProcess() error {
	for resource, limit := range map[int]uint64{unix.RLIMIT_CORE: 0, unix.RLIMIT_FSIZE: 0, unix.RLIMIT_NOFILE: 64} {
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
			return fmt.Errorf("set the limit %d: %w", resource, err)
		}
	}
	return nil
}

// restrictCalls makes the system calls fail, in all threads and for good, that
// a renderer has no use for: opening files, making sockets, running programs.
func restrictCalls() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up new privileges: %w", err)
	}
	filter, err := callFilter()
	if err != nil {
		return err
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return fmt.Errorf("filter system calls: %w", errno)
	}
	return nil
}

// callFilter is a seccomp program: kill what comes by another architecture's
// numbers, refuse what is denied, allow the rest. It denies by name, because
// the Go runtime's needs change; limits and namespaces stand behind it.
func callFilter() ([]unix.SockFilter, error) {
	if auditArch == 0 {
		return nil, unix.ENOTSUP
	}
	const (
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		atLeas = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		ret    = unix.BPF_RET | unix.BPF_K
		offNr  = 0 // of seccomp_data
		offArc = 4
	)
	denied := append([]uint32{
		unix.SYS_OPENAT, unix.SYS_OPENAT2, unix.SYS_OPEN_BY_HANDLE_AT,
		unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV,
		unix.SYS_SOCKET, unix.SYS_SOCKETPAIR, unix.SYS_CONNECT, unix.SYS_BIND, unix.SYS_LISTEN, unix.SYS_IO_URING_SETUP,
		unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT,
		unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_KEYCTL,
		unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_MEMFD_CREATE, unix.SYS_PIDFD_OPEN, unix.SYS_INIT_MODULE,
		unix.SYS_FINIT_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_MKDIRAT, unix.SYS_UNLINKAT, unix.SYS_RENAMEAT2,
		unix.SYS_LINKAT, unix.SYS_SYMLINKAT, unix.SYS_FCHMODAT, unix.SYS_FCHOWNAT, unix.SYS_TRUNCATE,
	}, archDenied...)
	n := len(denied)
	filter := []unix.SockFilter{
		{Code: load, K: offArc},
		{Code: equal, K: auditArch, Jt: 1},
		{Code: ret, K: unix.SECCOMP_RET_KILL_PROCESS},
		{Code: load, K: offNr},
		{Code: atLeas, K: x32Bit, Jt: uint8(n + 1)}, // to the refusal
	}
	for i, nr := range denied {
		filter = append(filter, unix.SockFilter{Code: equal, K: nr, Jt: uint8(n - i)})
	}
	return append(filter,
		unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EACCES)},
	), nil
}
