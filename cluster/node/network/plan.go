// Package network is how a node's own network namespace is joined to the host.
//
// The node has one veth pair to the host and nothing else. The host gets an
// address on it and two routes, so that it reaches pods and Services. The way
// out is not routed, because that would take forwarding and NAT on the host:
// TCP connections and DNS queries are carried over by a process of ours that
// holds sockets on both sides. The host's sysctls, its packet filter and its
// other links are never written.
package network

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/fairway-cd/fairway/cluster/pki"
)

// Plan is the addresses of one instance. It is chosen once for a data
// directory, because etcd remembers the addresses of Services and pods.
type Plan struct {
	// ID names what the instance makes on the host: its link and cgroups.
	ID string `json:"id"`
	// Link is the veth pair's own network.
	Link netip.Prefix `json:"link"`
	// ClusterCIDR is divided among the nodes, ServiceCIDR holds the ClusterIPs.
	ClusterCIDR netip.Prefix `json:"clusterCIDR"`
	ServiceCIDR netip.Prefix `json:"serviceCIDR"`
}

const planFile = "network.json"

// Prefix lengths of a plan. A /14 holds 1024 nodes of a /24 each.
const (
	blockBits   = 13
	clusterBits = 14
	serviceBits = 16
	linkBits    = 30
)

// pools are the private networks that blocks are taken from, the least likely
// to be in use elsewhere first.
func pools() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("10.128.0.0/9"),
		netip.MustParsePrefix("100.64.0.0/10"), // RFC 6598
		netip.MustParsePrefix("10.0.0.0/9"),
	}
}

// LoadPlan returns the plan of a data directory; the first time it chooses one
// whose addresses overlap none of those in use.
func LoadPlan(dir string, used []netip.Prefix) (Plan, error) {
	file := filepath.Join(dir, planFile)
	content, err := os.ReadFile(file)
	if err == nil {
		var p Plan
		if err := json.Unmarshal(content, &p); err != nil {
			return Plan{}, fmt.Errorf("reading %s: %w", file, err)
		}
		return p, p.validate()
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return Plan{}, fmt.Errorf("reading the network's plan: %w", err)
	}
	p, err := choose(dir, used)
	if err != nil {
		return Plan{}, err
	}
	if content, err = json.MarshalIndent(p, "", "  "); err != nil {
		return Plan{}, fmt.Errorf("encoding the network's plan: %w", err)
	}
	return p, pki.WriteFile(file, append(content, '\n'), 0o644)
}

// choose starts at a block that depends on the directory, so that two
// instances differ even where only one of them runs at a time.
func choose(dir string, used []netip.Prefix) (Plan, error) {
	sum := sha256.Sum256([]byte(dir))
	for _, pool := range pools() {
		count := 1 << (blockBits - pool.Bits())
		for i := range count {
			p := planAt(pool, (int(sum[0])+i)%count)
			if !overlaps(p, used) {
				p.ID = hex.EncodeToString(sum[:4])
				return p, nil
			}
		}
	}
	return Plan{}, errors.New("no private network is free: routes of this machine overlap all of 10.0.0.0/8 and 100.64.0.0/10")
}

func planAt(pool netip.Prefix, block int) Plan {
	base := pool.Addr().As4()
	at := func(offset uint32, bits int) netip.Prefix {
		n := uint32(base[0])<<24 | uint32(base[1])<<16
		n += uint32(block)<<(32-blockBits) + offset
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}), bits)
	}
	return Plan{
		ClusterCIDR: at(0, clusterBits),
		ServiceCIDR: at(1<<(32-clusterBits), serviceBits),
		Link:        at(1<<(32-clusterBits)+1<<(32-serviceBits), linkBits),
	}
}

// prefixes are all networks of the plan.
func (p Plan) prefixes() []netip.Prefix { return []netip.Prefix{p.Link, p.ClusterCIDR, p.ServiceCIDR} }

// Conflict returns the first of the networks in use that overlaps the plan.
func (p Plan) Conflict(used []netip.Prefix) (netip.Prefix, bool) {
	for _, own := range p.prefixes() {
		for _, other := range used {
			if own.Overlaps(other) {
				return other, true
			}
		}
	}
	return netip.Prefix{}, false
}

func overlaps(p Plan, used []netip.Prefix) bool {
	_, conflict := p.Conflict(used)
	return conflict
}

func (p Plan) validate() error {
	if len(p.ID) != 8 {
		return fmt.Errorf("the network's plan has the id %q, which is not ours", p.ID)
	}
	for _, prefix := range p.prefixes() {
		if !prefix.IsValid() || !prefix.Addr().Is4() || prefix.Masked() != prefix {
			return fmt.Errorf("the network's plan has %s, which is no IPv4 network", prefix)
		}
	}
	return nil
}

// HostAddress is the host's end of the link: where pods reach the host.
func (p Plan) HostAddress() netip.Addr { return p.Link.Addr().Next() }

// NodeAddress is the node's end of the link and its InternalIP.
func (p Plan) NodeAddress() netip.Addr { return p.HostAddress().Next() }

// DNSAddress is the ClusterIP of the cluster's DNS, the tenth by convention.
func (p Plan) DNSAddress() netip.Addr {
	a := p.ServiceCIDR.Addr().As4()
	a[3] = 10
	return netip.AddrFrom4(a)
}

// LinkName is the name of the host's end. A name has at most 15 bytes.
func (p Plan) LinkName() string { return "fw-" + p.ID }

// CgroupName is the node's group in each cgroup hierarchy.
func (p Plan) CgroupName() string { return "fairway-" + p.ID }
