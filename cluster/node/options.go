// Package node is the cluster's real node: containerd, the kubelet and
// kube-proxy in namespaces of their own on this machine, where root is to be
// had. Nothing of the host is changed but what belongs to the instance by name:
// one link with its routes, one cgroup, and the data directory.
//
// Two processes share the work. This package runs on the host's side: it
// prepares files and the link, and carries what the node cannot do itself (the
// way out, volumes, the cluster's DNS). Package inside is process 1 of the
// node's namespaces.
package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"
)

// Options is what a node is started with. NewOptions has the defaults; Data
// and Kubeconfig have none.
type Options struct {
	// Data is the directory that holds what the node remembers: images,
	// volumes, its addresses. It belongs to one node.
	Data string
	// Kubeconfig is an administrator's of the cluster to join. Its directory has
	// the cluster's authority in pki, unless PKI says otherwise.
	Kubeconfig string
	PKI        string
	// Programs is the directory with containerd, runc, the CNI plugins, pause
	// and coredns, as hack/node-binaries.sh makes it.
	Programs string
	Name     string
	// APIPort is where the API server listens at the host's end of the link;
	// 0: the port in the kubeconfig.
	APIPort int
	// ResolvConf names the DNS servers that the node asks, from the host.
	ResolvConf string
	// ReadyFile, where set, gets a line of JSON when the node is ready.
	ReadyFile string
	// DieWithParent stops the node when its parent process ends.
	DieWithParent bool
}

// NewOptions returns the defaults.
func NewOptions() *Options {
	o := &Options{Name: "fairway-node", ResolvConf: "/etc/resolv.conf"}
	if exe, err := os.Executable(); err == nil {
		o.Programs = filepath.Join(filepath.Dir(exe), "node")
	}
	return o
}

// AddFlags binds the options to the command's flags.
func (o *Options) AddFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.Data, "data", o.Data, "directory for what the node remembers (required)")
	fs.StringVar(&o.Kubeconfig, "kubeconfig", o.Kubeconfig, "administrator's kubeconfig of the cluster to join (required)")
	fs.StringVar(&o.PKI, "pki", o.PKI, "directory of the cluster's authority; empty: pki beside the kubeconfig")
	fs.StringVar(&o.Programs, "programs", o.Programs, "directory with containerd, runc, CNI plugins, pause and coredns")
	fs.StringVar(&o.Name, "name", o.Name, "the node's name")
	fs.IntVar(&o.APIPort, "api-port", o.APIPort, "port of the API server at the host's end of the link; 0: as in the kubeconfig")
	fs.StringVar(&o.ResolvConf, "resolv-conf", o.ResolvConf, "file with the DNS servers that the node asks, from the host")
	fs.StringVar(&o.ReadyFile, "ready-file", o.ReadyFile, "write a line of JSON to this file when the node is ready")
	fs.BoolVar(&o.DieWithParent, "die-with-parent", o.DieWithParent, "stop when the parent process ends")
}

// complete fills in what follows from the rest, makes paths absolute and
// refuses what cannot work.
func (o *Options) complete() error {
	if o.Data == "" || o.Kubeconfig == "" {
		return errors.New("--data and --kubeconfig are required")
	}
	if o.PKI == "" {
		o.PKI = filepath.Join(filepath.Dir(o.Kubeconfig), "pki")
	}
	for _, path := range []*string{&o.Data, &o.Kubeconfig, &o.PKI, &o.Programs, &o.ResolvConf, &o.ReadyFile} {
		if *path == "" {
			continue
		}
		var err error
		if *path, err = filepath.Abs(*path); err != nil {
			return fmt.Errorf("finding the working directory: %w", err)
		}
	}
	return nil
}
