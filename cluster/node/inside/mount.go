package inside

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// hostDirs are the host's top-level directories that the node sees, read-only:
// what programs such as mount and nft need to run, and the machine's settings.
var hostDirs = []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "nix", "gnu"}

// sysctls are the kernel's settings that a kubelet insists on (setupKernelTunables
// in its container manager). They belong to the whole machine: the node shows
// the kubelet the values it wants and leaves the real ones alone.
var sysctls = map[string]string{
	"vm/overcommit_memory":     "1",
	"vm/panic_on_oom":          "0",
	"kernel/panic":             "10",
	"kernel/panic_on_oops":     "1",
	"kernel/keys/root_maxkeys": "1000000",
	// root_maxkeys * 25, as there.
	"kernel/keys/root_maxbytes": "25000000",
}

// enterRoot puts the node's file system together and makes it the root of this
// mount namespace: the host's programs, and directories of its own for all
// that a node writes. The rest of the host is not there.
func enterRoot(l Layout) error {
	// Slave: what the host unmounts goes here too, what is mounted here stays here.
	if err := mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return err
	}
	if err := mount("tmpfs", l.Root, "tmpfs", 0, "mode=0755,size=16m"); err != nil {
		return err
	}
	for _, step := range []func(Layout) error{mountHost, mountKernel, mountOwn, pivot} {
		if err := step(l); err != nil {
			return err
		}
	}
	// Shared among the containers, for those that ask for mount propagation.
	if err := mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return err
	}
	if err := shieldSysctls(); err != nil {
		return err
	}
	return coverResolvConf()
}

func mountHost(l Layout) error {
	for _, name := range hostDirs {
		from, to := "/"+name, filepath.Join(l.Root, name)
		info, err := os.Lstat(from)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(from)
			if err != nil {
				return err
			}
			if err := os.Symlink(target, to); err != nil {
				return err
			}
			continue
		}
		if err := bind(from, to, unix.MS_RDONLY); err != nil {
			return err
		}
	}
	return nil
}

// mountKernel mounts /proc and /sys anew, since they show the namespaces of
// whom they were mounted by, and keeps the host's cgroups.
func mountKernel(l Layout) error {
	for _, m := range []struct{ kind, dir string }{{"proc", "proc"}, {"sysfs", "sys"}} {
		dir := filepath.Join(l.Root, m.dir)
		if err := os.MkdirAll(dir, 0o555); err != nil {
			return err
		}
		if err := mount(m.kind, dir, m.kind, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
			return err
		}
	}
	if err := bind("/sys/fs/cgroup", filepath.Join(l.Root, "sys/fs/cgroup"), 0); err != nil {
		return err
	}
	return bind("/dev", filepath.Join(l.Root, "dev"), 0)
}

func mountOwn(l Layout) error {
	for _, dir := range []string{"run", "tmp"} {
		path := filepath.Join(l.Root, dir)
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
		mode := map[string]string{"run": "mode=0755", "tmp": "mode=1777"}[dir]
		if err := mount("tmpfs", path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, mode); err != nil {
			return err
		}
	}
	for _, m := range []struct {
		from, to string
		flags    uintptr
	}{
		{l.Etc, EtcDir, unix.MS_RDONLY},
		{l.Programs, ProgramDir, unix.MS_RDONLY},
		{l.Images, imagesDir, unix.MS_RDONLY},
		{l.Log, LogDir, 0},
		{l.Volumes, VolumesDir, 0},
		{l.Kubelet, kubeletDir, 0},
		{l.PodLogs, "/var/log/pods", 0},
		{l.Containerd, "/var/lib/containerd", 0},
	} {
		if err := bind(m.from, filepath.Join(l.Root, m.to), m.flags); err != nil {
			return err
		}
	}
	for _, dir := range []string{"root", "var/tmp", "var/lib", "var/log/containers", "old"} {
		if err := os.MkdirAll(filepath.Join(l.Root, dir), 0o755); err != nil {
			return err
		}
	}
	return os.Symlink("/run", filepath.Join(l.Root, "var/run"))
}

func pivot(l Layout) error {
	if err := unix.PivotRoot(l.Root, filepath.Join(l.Root, "old")); err != nil {
		return fmt.Errorf("changing the root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := unix.Unmount("/old", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leaving the host's file system: %w", err)
	}
	return os.Remove("/old")
}

func shieldSysctls() error {
	dir := filepath.Join("/run", "sysctl")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, value := range sysctls {
		file := filepath.Join(dir, strings.ReplaceAll(name, "/", "."))
		if err := os.WriteFile(file, []byte(value+"\n"), 0o444); err != nil {
			return err
		}
		if err := mount(file, "/proc/sys/"+name, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	return nil
}

// coverResolvConf has the daemons ask the node's DNS relay: the host's servers
// may listen at its loopback address only, which is another one here.
func coverResolvConf() error {
	const file = "/etc/resolv.conf"
	// It may be a link to below /run, which is the node's own and empty.
	if target, err := os.Readlink(file); err == nil {
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(file), target)
		}
		if strings.HasPrefix(target, "/run/") {
			if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(target, nil, 0o644); err != nil {
				return err
			}
		}
	}
	err := mount(filepath.Join(EtcDir, ResolvFile), file, "", unix.MS_BIND, "")
	if errors.Is(err, fs.ErrNotExist) {
		return nil // A machine without the file resolves nothing, nor do we.
	}
	return err
}

// bind shows a directory at another place, which it makes.
func bind(from, to string, flags uintptr) error {
	if err := os.MkdirAll(to, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := mount(from, to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if flags == 0 {
		return nil
	}
	// Flags of a bind mount are set by a second call, which must not drop those
	// that it came with.
	var stat unix.Statfs_t
	if err := unix.Statfs(to, &stat); err != nil {
		return fmt.Errorf("reading the flags of %s: %w", to, err)
	}
	kept := uintptr(stat.Flags) & (unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NODIRATIME | unix.MS_RELATIME)
	return mount("", to, "", unix.MS_BIND|unix.MS_REMOUNT|flags|kept, "")
}

func mount(source, target, kind string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		return fmt.Errorf("mounting %s: %w", strings.Join(slices.DeleteFunc([]string{source, target}, func(s string) bool { return s == "" }), " at "), err)
	}
	return nil
}
