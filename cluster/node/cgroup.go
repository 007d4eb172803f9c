package node

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	cgroupRoot = "/sys/fs/cgroup"
	// systemGroup is the part of the node's group for the daemons. On version 2
	// a group has processes or parts, not both.
	systemGroup  = "system"
	killPoll     = 10 * time.Millisecond
	killDeadline = 10 * time.Second
)

// cgroupHierarchies are where cgroups of either version are mounted.
func cgroupHierarchies() ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("looking for cgroups: %w", err)
	}
	defer f.Close()
	var dirs []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// See proc(5): the mount point is the fifth field, the type follows " - ".
		before, after, _ := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		kind, _, _ := strings.Cut(after, " ")
		if len(fields) >= 5 && (kind == "cgroup" || kind == "cgroup2") && strings.HasPrefix(fields[4], cgroupRoot) {
			dirs = append(dirs, fields[4])
		}
	}
	return dirs, lines.Err()
}

// makeCgroup makes the node's group in every hierarchy, with what a kubelet
// expects of its cgroup root.
func makeCgroup(name string) error {
	hierarchies, err := cgroupHierarchies()
	if err != nil {
		return err
	}
	for _, hierarchy := range hierarchies {
		group := filepath.Join(hierarchy, name)
		if err := os.MkdirAll(filepath.Join(group, systemGroup), 0o755); err != nil {
			return fmt.Errorf("making a cgroup: %w", err)
		}
		if err := inheritCpuset(hierarchy, group); err != nil {
			return err
		}
		for _, dir := range []string{hierarchy, group} {
			if err := enableControllers(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// inheritCpuset fills in what version 1 leaves empty in a new group, in which
// no process can be until then.
func inheritCpuset(hierarchy, group string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(hierarchy, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue // Another controller's hierarchy, or version 2.
		}
		if err != nil {
			return fmt.Errorf("reading the machine's %s: %w", file, err)
		}
		for _, dir := range []string{group, filepath.Join(group, systemGroup)} {
			if err := os.WriteFile(filepath.Join(dir, file), value, 0o644); err != nil {
				return fmt.Errorf("setting a cgroup's %s: %w", file, err)
			}
		}
	}
	return nil
}

// controllers are those that a kubelet needs to be enabled on version 2, or
// uses where they are there.
var controllers = []string{"cpu", "cpuset", "memory", "pids", "io", "hugetlb"}

// enableControllers passes version 2's controllers on to a group's parts.
func enableControllers(group string) error {
	there, err := os.ReadFile(filepath.Join(group, "cgroup.controllers"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // Version 1.
	}
	control := filepath.Join(group, "cgroup.subtree_control")
	enabled, enabledErr := os.ReadFile(control)
	if err := errors.Join(err, enabledErr); err != nil {
		return fmt.Errorf("reading cgroup controllers: %w", err)
	}
	for _, controller := range controllers {
		if !slices.Contains(strings.Fields(string(there)), controller) ||
			slices.Contains(strings.Fields(string(enabled)), controller) {
			continue
		}
		if err := os.WriteFile(control, []byte("+"+controller), 0o644); err != nil {
			return fmt.Errorf("enabling cgroup controller %s: %w", controller, err)
		}
	}
	return nil
}

// joinCgroup puts a process into the part for daemons; its children follow.
func joinCgroup(name string, pid int) error {
	hierarchies, err := cgroupHierarchies()
	if err != nil {
		return err
	}
	for _, hierarchy := range hierarchies {
		file := filepath.Join(hierarchy, name, systemGroup, "cgroup.procs")
		if err := os.WriteFile(file, []byte(strconv.Itoa(pid)), 0o644); err != nil {
			return fmt.Errorf("joining a cgroup: %w", err)
		}
	}
	return nil
}

// removeCgroup kills what is left in the node's group and removes it.
func removeCgroup(name string) error {
	hierarchies, err := cgroupHierarchies()
	if err != nil {
		return err
	}
	deadline := time.Now().Add(killDeadline)
	for _, hierarchy := range hierarchies {
		for {
			err := removeGroup(filepath.Join(hierarchy, name))
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("removing a cgroup: %w", err)
			}
			time.Sleep(killPoll)
		}
	}
	return nil
}

// removeGroup tries once to remove a group with its parts, the innermost first.
func removeGroup(group string) error {
	var dirs []string
	err := filepath.WalkDir(group, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range slices.Backward(dirs) {
		if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
			killGroup(dir)
			errs = append(errs, &fs.PathError{Op: "rmdir", Path: dir, Err: err})
		}
	}
	return errors.Join(errs...)
}

func killGroup(dir string) {
	content, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return // Gone in the meantime; the next try will tell.
	}
	for _, field := range strings.Fields(string(content)) {
		// 0 is a process that this PID namespace does not see.
		if pid, err := strconv.Atoi(field); err == nil && pid > 1 {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}
