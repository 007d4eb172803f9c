package inside

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// podGrace is how long the containers may take to end when the node stops.
const podGrace = 5 * time.Second

// Run is process 1 of a node: it reads its Config from r, which the outside
// closes when the link is there, and then runs the node until ctx ends.
// It must be called in new mount, network, PID, UTS and IPC namespaces.
func Run(ctx context.Context, config *os.File) error {
	if os.Getpid() != 1 {
		return errors.New("not process 1 of a PID namespace: this is started by `fairway-cluster node` alone")
	}
	c, err := readConfig(config)
	if err != nil {
		return err
	}
	if err := errors.Join(config.Close(), unix.Sethostname([]byte(c.Name))); err != nil {
		return fmt.Errorf("naming the node: %w", err)
	}
	if err := enterRoot(c.Layout); err != nil {
		return fmt.Errorf("preparing the node's file system: %w", err)
	}
	if err := forward(); err != nil {
		return err
	}
	if err := filter(ctx, c); err != nil {
		return err
	}
	return runDaemons(ctx, c)
}

// runDaemons stops the daemons in the order in which they need each other:
// the kubelet first, or it would start again the containers that end.
func runDaemons(ctx context.Context, c Config) error {
	reaper := newReaper()
	reaping, stopReaping := context.WithCancel(context.WithoutCancel(ctx))
	defer stopReaping()
	go reaper.run(reaping)

	group, failed := errgroup.WithContext(context.WithoutCancel(ctx))
	runtimeCtx, stopRuntime := context.WithCancel(failed)
	agentsCtx, stopAgents := context.WithCancel(failed)
	defer stopRuntime()
	defer stopAgents()
	group.Go(func() error { return containerd().run(runtimeCtx, reaper) })

	agents, agentsFailed := errgroup.WithContext(agentsCtx)
	agents.Go(func() error { return proxy().run(agentsFailed, reaper) })
	agents.Go(func() error {
		if err := importImages(agentsFailed, reaper, c.Images); err != nil {
			return err
		}
		return kubelet(c).run(agentsFailed, reaper)
	})
	group.Go(func() error {
		err := agents.Wait()
		endPods(c.Cgroup)
		stopRuntime()
		if agentsCtx.Err() != nil {
			return nil // Told to stop: whatever was under way was broken off.
		}
		return err
	})
	stop := context.AfterFunc(ctx, stopAgents)
	defer stop()
	return group.Wait()
}

// endPods asks every process in a container to end and waits for it. The
// kubelet does not do it: to it this is a machine that goes down.
func endPods(cgroup string) {
	deadline := time.Now().Add(podGrace)
	for signal := unix.SIGTERM; ; signal = unix.Signal(0) {
		alive := 0
		for _, pid := range podProcesses(cgroup) {
			if unix.Kill(pid, signal) == nil {
				alive++
			}
		}
		if alive == 0 || time.Now().After(deadline) {
			if alive > 0 {
				slog.Warn("containers killed that did not end in time", "processes", alive)
			}
			return
		}
		time.Sleep(socketPoll)
	}
}

func containerd() daemon {
	return daemon{
		name: "containerd",
		args: []string{filepath.Join(ProgramDir, "containerd"), "--config", filepath.Join(EtcDir, ContainerdFile)},
		// containerd looks for runc and its shim in PATH.
		env: append(os.Environ(), "PATH="+ProgramDir+":"+os.Getenv("PATH")),
	}
}

func kubelet(c Config) daemon {
	return daemon{
		name: "kubelet",
		args: []string{"/proc/self/exe", "kubelet",
			"--config=" + filepath.Join(EtcDir, KubeletFile),
			"--kubeconfig=" + filepath.Join(EtcDir, KubeletKubeconfig),
			"--hostname-override=" + c.Name,
			"--node-ip=" + c.NodeAddress.String(),
			"--node-labels=" + RealLabel + "=true",
			"--root-dir=" + kubeletDir,
		},
		env: os.Environ(),
	}
}

// RealLabel marks the node whose pods really run.
const RealLabel = "fairway-cd.io/real-node"

func proxy() daemon {
	return daemon{
		name: "kube-proxy",
		args: []string{"/proc/self/exe", "kube-proxy", "--config=" + filepath.Join(EtcDir, ProxyFile)},
		env:  os.Environ(),
	}
}
