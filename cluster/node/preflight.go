package node

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// UnsupportedError says why this machine cannot run a real node. Simulated
// nodes work all the same.
type UnsupportedError struct {
	Reason string
	// Hint is what would help.
	Hint string
}

func (e *UnsupportedError) Error() string { return "no real node here: " + e.Reason }

// programs are what Options.Programs must hold.
var programs = []string{"containerd", "containerd-shim-runc-v2", "ctr", "runc", "ptp", "host-local", "portmap", "pause", "coredns"}

// Supported returns an UnsupportedError where a real node cannot run on this
// machine with the programs in that directory.
func Supported(programDir string) error {
	if os.Geteuid() != 0 {
		return &UnsupportedError{Reason: "not root", Hint: "run as root, or use simulated nodes"}
	}
	for _, tool := range []string{"nft", "mount", "umount"} {
		if _, err := exec.LookPath(tool); err != nil {
			return &UnsupportedError{Reason: tool + " is not installed", Hint: "install the package nftables or mount"}
		}
	}
	for _, program := range programs {
		if _, err := os.Stat(filepath.Join(programDir, program)); err != nil {
			return &UnsupportedError{
				Reason: fmt.Sprintf("%s is not in %s", program, programDir),
				Hint:   "run hack/node-binaries.sh",
			}
		}
	}
	if err := cgroupsWritable(); err != nil {
		return err
	}
	// A container without the right to make namespaces: tried, because what
	// forbids it may be capabilities, seccomp or a security module.
	return tryNamespaces()
}

func cgroupsWritable() error {
	hierarchies, err := cgroupHierarchies()
	if err != nil {
		return err
	}
	for _, dir := range hierarchies {
		if unix.Access(dir, unix.W_OK) != nil {
			return &UnsupportedError{Reason: "cgroups are read-only at " + dir, Hint: "in a container, run it privileged"}
		}
		// Refused where processes are in the group itself: so it is in a container
		// that has a version 2 of its own.
		if err := enableControllers(dir); err != nil {
			return &UnsupportedError{Reason: err.Error(), Hint: "run outside of a container"}
		}
	}
	if len(hierarchies) == 0 {
		return &UnsupportedError{Reason: "no cgroups are mounted below /sys/fs/cgroup"}
	}
	return nil
}

func tryNamespaces() error {
	cmd := exec.Command("/proc/self/exe", "node", "probe")
	cmd.SysProcAttr = namespaces()
	if out, err := cmd.CombinedOutput(); err != nil {
		return &UnsupportedError{Reason: fmt.Sprintf("namespaces cannot be made: %v %s", err, out), Hint: "in a container, run it privileged"}
	}
	return nil
}
