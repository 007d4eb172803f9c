package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// usage is what a process tree has used.
type usage struct {
	cpu  float64 // seconds
	pids []int
}

// memory is what the processes of a tree hold, in bytes. resident counts the
// pages of our program once for each process that runs it, shared (PSS) once.
type memory struct{ resident, shared int64 }

func (m memory) String() string {
	return fmt.Sprintf("%d MiB (%d with shared pages counted again)", m.shared>>20, m.resident>>20)
}

// memory reads /proc/PID/smaps_rollup: proc(5).
func (u usage) memory() memory {
	var m memory
	for _, pid := range u.pids {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			continue // it has ended
		}
		for line := range strings.Lines(string(data)) {
			name, value, _ := strings.Cut(line, ":")
			f := strings.Fields(value)
			if len(f) == 0 {
				continue
			}
			kib, _ := strconv.ParseInt(f[0], 10, 64)
			switch name {
			case "Rss":
				m.resident += kib << 10
			case "Pss":
				m.shared += kib << 10
			}
		}
	}
	return m
}

// treeUsage adds up the process and its descendants, but not those below
// except. Processes that have ended and were waited for count in their
// parent's cutime.
func treeUsage(pid int, except ...int) usage {
	children := map[int][]int{}
	stats := map[int]usage{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		p, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		parent, u, ok := readStat(p)
		if !ok {
			continue
		}
		children[parent] = append(children[parent], p)
		stats[p] = u
	}
	skip := map[int]bool{}
	for _, p := range except {
		skip[p] = true
	}
	var sum func(int) usage
	sum = func(p int) usage {
		if skip[p] {
			return usage{}
		}
		total := usage{cpu: stats[p].cpu, pids: []int{p}}
		for _, c := range children[p] {
			u := sum(c)
			total.cpu += u.cpu
			total.pids = append(total.pids, u.pids...)
		}
		return total
	}
	return sum(pid)
}

// readStat reads /proc/PID/stat: proc(5).
func readStat(pid int) (parent int, u usage, ok bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, u, false
	}
	// The name, in parentheses, may hold anything; what follows does not.
	stat := string(data)
	f := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
	if len(f) < 15 {
		return 0, u, false
	}
	const ticks = 100 // USER_HZ
	for _, i := range []int{11, 12, 13, 14} {
		n, _ := strconv.ParseFloat(f[i], 64)
		u.cpu += n / ticks
	}
	parent, _ = strconv.Atoi(f[1])
	return parent, u, true
}

func memoryTotal() string {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return "memory unknown"
	}
	f := strings.Fields(string(data))
	kib, _ := strconv.ParseFloat(f[1], 64)
	return fmt.Sprintf("%.0f GiB", kib/(1<<20))
}

func cpuModel() string {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "CPU unknown"
	}
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "CPU unknown"
}
