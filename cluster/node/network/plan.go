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
	"encoding/binary"
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

// Prefix lengths of a plan. A /16 holds 256 nodes of a /24 each, or 512 of a /25.
const (
	blockBits   = 15
	clusterBits = 16
	serviceBits = 17
	linkBits    = 30
)

// pools are the private networks that blocks are taken from: the ones less
// likely to be in use elsewhere, and those to fall back on.
func pools() [][]netip.Prefix {
	return [][]netip.Prefix{
		{netip.MustParsePrefix("10.128.0.0/9"), netip.MustParsePrefix("100.64.0.0/10")}, // RFC 1918, RFC 6598
		{netip.MustParsePrefix("10.0.0.0/9")},
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
		blocks := blocksOf(pool)
		for i := range blocks {
			p := planAt(blocks[(int(sum[0])+i)%len(blocks)])
			if _, conflict := p.Conflict(used); !conflict {
				p.ID = hex.EncodeToString(sum[:4])
				return p, nil
			}
		}
	}
	return Plan{}, errors.New("no private network is free: routes of this machine overlap all of 10.0.0.0/8 and 100.64.0.0/10")
}

// blocksOf returns the first addresses of all blocks in some networks.
func blocksOf(pool []netip.Prefix) []netip.Addr {
	var blocks []netip.Addr
	for _, network := range pool {
		for i := range 1 << (blockBits - network.Bits()) {
			blocks = append(blocks, offset(network.Addr(), uint32(i)<<(32-blockBits)))
		}
	}
	return blocks
}

// planAt divides a block: pods, Services, and the link after them.
func planAt(block netip.Addr) Plan {
	services := offset(block, 1<<(32-clusterBits))
	return Plan{
		ClusterCIDR: netip.PrefixFrom(block, clusterBits),
		ServiceCIDR: netip.PrefixFrom(services, serviceBits),
		Link:        netip.PrefixFrom(offset(services, 1<<(32-serviceBits)), linkBits),
	}
}

func offset(address netip.Addr, by uint32) netip.Addr {
	bytes := address.As4()
	binary.BigEndian.PutUint32(bytes[:], binary.BigEndian.Uint32(bytes[:])+by)
	return netip.AddrFrom4(bytes)
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

// validate refuses what is not ours: names and addresses are used as they are.
func (p Plan) validate() error {
	if id, err := hex.DecodeString(p.ID); err != nil || len(id) != 4 {
		return fmt.Errorf("the network's plan has the id %q, which is not ours", p.ID)
	}
	for bits, prefix := range map[int]netip.Prefix{linkBits: p.Link, clusterBits: p.ClusterCIDR, serviceBits: p.ServiceCIDR} {
		if !prefix.IsValid() || !prefix.Addr().Is4() || prefix.Masked() != prefix || prefix.Bits() != bits {
			return fmt.Errorf("the network's plan has %s, which is no IPv4 network of /%d", prefix, bits)
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
