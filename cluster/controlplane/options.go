package controlplane

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"

	"github.com/spf13/pflag"
)

// Options is what one control plane is started with. NewOptions has the
// defaults; only Data has none.
type Options struct {
	// Data is the directory that holds everything the cluster remembers.
	Data string
	// Address and Port are where the API server listens. Port 0 takes the one
	// of the last run where it is free, and any free one otherwise.
	Address string
	Port    int
	// AlsoListen are more addresses to listen at, as IP or IP:PORT. They need
	// not exist yet: the veth pair of a node may be made later. Pods are told
	// the main port, so an address that is for them is given without one.
	AlsoListen []string
	// AdvertiseAddress is where pods reach the API server: the one endpoint of
	// the Service "kubernetes". Empty: the first address that is not loopback,
	// and no endpoint where there is none, as pods that are only simulated
	// need none.
	AdvertiseAddress string
	// ServiceSockets are Services that a process beside the cluster serves, as
	// NAMESPACE/NAME=SOCKET: what the API server is asked to proxy to one goes
	// to the unix socket, as long as the Service has no selector. A relative
	// path begins at Data, and so may be longer than a socket's.
	ServiceSockets []string
	ServiceCIDR    string
	ClusterCIDR    string
	// NodeCIDRMask is the size of the part of ClusterCIDR that a node gets.
	NodeCIDRMask int
	// KwokNodes is the number of simulated nodes, KwokTaint when they refuse
	// ordinary pods.
	KwokNodes int
	KwokTaint KwokTaint
	// UnsafeNoFsync makes etcd fast and forgetful: a power cut loses data. For
	// clusters that are thrown away.
	UnsafeNoFsync bool
	// ReadyFile, where set, gets the same line as standard output.
	ReadyFile string
	// ServingFile, where set, gets that line as soon as the administrator can
	// work with the API server, which is before anybody else can.
	ServingFile string
	// Verbosity is klog's; below 0 only errors are logged.
	Verbosity int
	// DieWithParent stops the control plane when its parent process ends.
	DieWithParent bool
}

// NewOptions returns the defaults.
func NewOptions() *Options {
	return &Options{
		Address:      "127.0.0.1",
		ServiceCIDR:  "10.96.0.0/16",
		ClusterCIDR:  "10.244.0.0/16",
		NodeCIDRMask: 24,
		KwokNodes:    1,
		KwokTaint:    KwokTaintAuto,
		Verbosity:    -1,
	}
}

// AddFlags binds the options to the command's flags.
func (o *Options) AddFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.Data, "data", o.Data, "directory for everything the cluster remembers (required)")
	fs.StringVar(&o.Address, "address", o.Address, "IP address the API server listens at")
	fs.IntVar(&o.Port, "port", o.Port, "port of the API server; 0: the last one where it is free, else any")
	fs.StringSliceVar(&o.AlsoListen, "also-listen", o.AlsoListen, "more addresses to listen at, IP or IP:PORT; they may appear later")
	fs.StringVar(&o.AdvertiseAddress, "advertise-address", o.AdvertiseAddress, "IP address at which pods reach the API server; empty: the first given that is not loopback")
	fs.StringArrayVar(&o.ServiceSockets, "service-socket", o.ServiceSockets, "NAMESPACE/NAME=SOCKET: have the API server's proxy of this Service, while it has no selector, go to a unix socket; relative to --data")
	fs.StringVar(&o.ServiceCIDR, "service-cidr", o.ServiceCIDR, "addresses of Services")
	fs.StringVar(&o.ClusterCIDR, "cluster-cidr", o.ClusterCIDR, "addresses of pods, divided among the nodes")
	fs.IntVar(&o.NodeCIDRMask, "node-cidr-mask-size", o.NodeCIDRMask, "size of one node's part of cluster-cidr")
	fs.IntVar(&o.KwokNodes, "kwok-nodes", o.KwokNodes, "number of simulated nodes")
	fs.Var(&o.KwokTaint, "kwok-taint", "taint simulated nodes against ordinary pods: always, never, or auto (while there is a real node)")
	fs.BoolVar(&o.UnsafeNoFsync, "unsafe-no-fsync", o.UnsafeNoFsync, "let etcd forget on a power cut; for tests")
	fs.StringVar(&o.ReadyFile, "ready-file", o.ReadyFile, "write the line about readiness to this file, too")
	fs.StringVar(&o.ServingFile, "serving-file", o.ServingFile, "write that line to this file as soon as the administrator can work, before all is ready")
	fs.IntVar(&o.Verbosity, "v", o.Verbosity, "verbosity of the log as in Kubernetes; -1: errors only")
	fs.BoolVar(&o.DieWithParent, "die-with-parent", o.DieWithParent, "stop when the parent process ends")
}

// complete makes the paths absolute, which must be done before the process
// changes its directory, and refuses what cannot work.
func (o *Options) complete() error {
	if o.Data == "" {
		return errors.New("--data is required")
	}
	var err error
	if o.Data, err = filepath.Abs(o.Data); err != nil {
		return fmt.Errorf("--data: %w", err)
	}
	for name, file := range map[string]*string{"--ready-file": &o.ReadyFile, "--serving-file": &o.ServingFile} {
		if *file == "" {
			continue
		}
		if *file, err = filepath.Abs(*file); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if _, err := netip.ParseAddr(o.Address); err != nil {
		return fmt.Errorf("--address: %w", err)
	}
	if o.Port < 0 || o.Port > 65535 {
		return fmt.Errorf("--port %d is not a port", o.Port)
	}
	if _, err := netip.ParsePrefix(o.ServiceCIDR); err != nil {
		return fmt.Errorf("--service-cidr: %w", err)
	}
	pods, err := netip.ParsePrefix(o.ClusterCIDR)
	if err != nil {
		return fmt.Errorf("--cluster-cidr: %w", err)
	}
	// The controller manager's own limit: it keeps a bit for each node.
	if spread := o.NodeCIDRMask - pods.Bits(); spread < 0 || spread > 16 {
		return fmt.Errorf("--node-cidr-mask-size %d does not divide --cluster-cidr %s: it may be up to 16 more than %d", o.NodeCIDRMask, pods, pods.Bits())
	}
	if o.KwokNodes < 0 {
		return fmt.Errorf("--kwok-nodes %d is negative", o.KwokNodes)
	}
	for _, address := range o.AlsoListen {
		if _, err := parseListenAddress(address, 1); err != nil {
			return fmt.Errorf("--also-listen: %w", err)
		}
	}
	if _, err := parseServiceSockets(o.ServiceSockets); err != nil {
		return fmt.Errorf("--service-socket: %w", err)
	}
	return o.completeAdvertiseAddress()
}

func (o *Options) completeAdvertiseAddress() error {
	if o.AdvertiseAddress != "" {
		ip, err := netip.ParseAddr(o.AdvertiseAddress)
		if err != nil {
			return fmt.Errorf("--advertise-address: %w", err)
		}
		// The API server refuses these as the endpoint of a Service.
		if ip.IsLoopback() || ip.IsUnspecified() {
			return fmt.Errorf("--advertise-address %s cannot be reached from a pod", ip)
		}
		return nil
	}
	for _, address := range append([]string{o.Address}, o.AlsoListen...) {
		listen, err := parseListenAddress(address, 1)
		if err != nil {
			return err
		}
		if ip := listen.Addr(); !ip.IsLoopback() && !ip.IsUnspecified() {
			o.AdvertiseAddress = ip.String()
			return nil
		}
	}
	return nil
}

// parseListenAddress reads IP:PORT, or IP alone with the port given.
func parseListenAddress(s string, port uint16) (netip.AddrPort, error) {
	if ip, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(ip, port), nil
	}
	return netip.ParseAddrPort(s)
}

// hosts are all addresses that the API server's certificate must be good for.
func (o *Options) hosts(serviceIP net.IP) []net.IP {
	ips := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback, serviceIP}
	add := func(s string) {
		listen, err := parseListenAddress(s, 1)
		if err != nil || listen.Addr().IsUnspecified() {
			return
		}
		ip := net.IP(listen.Addr().AsSlice())
		for _, known := range ips {
			if known.Equal(ip) {
				return
			}
		}
		ips = append(ips, ip)
	}
	add(o.Address)
	add(o.AdvertiseAddress)
	for _, address := range o.AlsoListen {
		add(address)
	}
	return ips
}
