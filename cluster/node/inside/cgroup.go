package inside

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// podProcesses are the processes in the node's containers, as this PID
// namespace numbers them.
func podProcesses(cgroup string) []int {
	var pids []int
	// Version 2 has one hierarchy, version 1 one for each controller; a
	// container is in the pids group of either.
	for _, hierarchy := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/pids"} {
		root := filepath.Join(hierarchy, cgroup, "kubepods")
		_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.Name() != "cgroup.procs" {
				return nil // A group that has just gone has no processes.
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return nil
			}
			for _, field := range strings.Fields(string(content)) {
				// 0 stands for a process of another namespace.
				if pid, err := strconv.Atoi(field); err == nil && pid > 1 {
					pids = append(pids, pid)
				}
			}
			return nil
		})
	}
	slices.Sort(pids)
	return slices.Compact(pids)
}
