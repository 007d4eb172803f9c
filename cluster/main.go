// Command fairway-cluster is Kubernetes in one program: the control plane, the
// node's daemons and kubectl, each started by its name.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// command runs one of the programs and returns its exit code. The first
// argument is the program's own name.
type command struct {
	name string
	what string
	run  func(args []string) int
}

func commands() []command {
	return []command{
		{"control-plane", "etcd, API server, controllers, scheduler and simulated nodes", runControlPlane},
		{"node", "the real node: containerd, kubelet and kube-proxy in namespaces of their own", runNode},
		{"image", "make an image archive out of static programs, without Docker", runImage},
		{"kubelet", "the kubelet, its arguments as they are", runKubelet},
		{"kube-proxy", "kube-proxy, its arguments as they are", runKubeProxy},
		{"kubectl", "kubectl, its arguments as they are", runKubectl},
	}
}

func main() {
	os.Exit(run(os.Args))
}

// run chooses the program by the name it was called by, as a link named
// kubectl is, and else by its first argument.
func run(args []string) int {
	if c, ok := find(filepath.Base(args[0])); ok {
		return c.run(args)
	}
	if len(args) > 1 {
		if c, ok := find(args[1]); ok {
			return c.run(args[1:])
		}
	}
	fmt.Fprintln(os.Stderr, "usage: fairway-cluster COMMAND [ARGUMENTS]")
	for _, c := range commands() {
		fmt.Fprintf(os.Stderr, "  %-14s %s\n", c.name, c.what)
	}
	return 2
}

func find(name string) (command, bool) {
	all := commands()
	i := slices.IndexFunc(all, func(c command) bool { return c.name == name })
	if i < 0 {
		return command{}, false
	}
	return all[i], true
}
