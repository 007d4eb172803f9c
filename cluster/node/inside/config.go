// Package inside is what runs in a node's own namespaces: process 1, which
// mounts the node's file system, sets its packet filter and keeps containerd,
// the kubelet and kube-proxy running.
//
// All of it ends with process 1: the kernel then kills every process of the
// PID namespace, and with the last of them the mounts, links and routes are
// gone. That is why nothing here needs cleaning up after a kill -9.
package inside

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
)

// Paths inside the node's file system.
const (
	// EtcDir holds configuration, certificates and kubeconfigs, LogDir what
	// the daemons say, ProgramDir containerd, runc and the CNI plugins.
	EtcDir     = "/run/fairway"
	LogDir     = "/var/log/fairway"
	ProgramDir = "/opt/fairway"
	VolumesDir = "/var/lib/fairway/volumes"
	imagesDir  = "/var/lib/fairway/images"
	kubeletDir = "/var/lib/kubelet"

	containerdSocket = "/run/containerd/containerd.sock"
)

// Files that the outside puts in EtcDir.
const (
	ContainerdFile    = "containerd.toml"
	KubeletFile       = "kubelet.yaml"
	KubeletKubeconfig = "kubelet.kubeconfig"
	ProxyFile         = "kube-proxy.yaml"
	ProxyKubeconfig   = "kube-proxy.kubeconfig"
	ResolvFile        = "resolv.conf"
	RegistriesDir     = "certs.d"
)

// Layout is where the outside keeps the node's directories. All are paths on
// the host and exist.
type Layout struct {
	// Root is an empty directory: the node's file system is put together there.
	Root     string `json:"root"`
	Etc      string `json:"etc"`
	Log      string `json:"log"`
	Programs string `json:"programs"`
	Volumes  string `json:"volumes"`
	Images   string `json:"images"`
	Kubelet  string `json:"kubelet"`
	PodLogs  string `json:"podLogs"`
	// Containerd holds images and containers.
	Containerd string `json:"containerd"`
}

// Image is one that is there from the start: an archive in Layout.Images, and
// the name it is imported by. A name stands for one content for ever.
type Image struct {
	Name string `json:"name"`
	File string `json:"file"`
}

// Config is what process 1 is told.
type Config struct {
	Name        string       `json:"name"`
	NodeAddress netip.Addr   `json:"nodeAddress"`
	ClusterCIDR netip.Prefix `json:"clusterCIDR"`
	ServiceCIDR netip.Prefix `json:"serviceCIDR"`
	Link        netip.Prefix `json:"link"`
	// EgressPort is where connections that leave the cluster are redirected.
	EgressPort uint16  `json:"egressPort"`
	Cgroup     string  `json:"cgroup"`
	Layout     Layout  `json:"layout"`
	Images     []Image `json:"images"`
}

func readConfig(r io.Reader) (Config, error) {
	var c Config
	if err := json.NewDecoder(r).Decode(&c); err != nil {
		return Config{}, fmt.Errorf("reading the node's configuration: %w", err)
	}
	return c, nil
}
