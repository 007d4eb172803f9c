package network_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/fairway-cd/fairway/cluster/node/network"
)

func TestPlanIsKept(t *testing.T) {
	dir := t.TempDir()
	first, err := network.LoadPlan(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	// Also when the addresses are in use now: by itself, most likely.
	again, err := network.LoadPlan(dir, []netip.Prefix{first.Link})
	if err != nil {
		t.Fatal(err)
	}
	if again != first {
		t.Errorf("first %+v, then %+v", first, again)
	}
}

func TestPlanAvoidsWhatIsInUse(t *testing.T) {
	var used []netip.Prefix
	for _, s := range []string{"10.128.0.0/10", "10.200.0.0/16", "100.64.0.0/10", "192.168.1.0/24", "172.17.0.0/16"} {
		used = append(used, netip.MustParsePrefix(s))
	}
	// One instance after the other, until the preferred networks are full and
	// beyond.
	ids := map[string]bool{}
	for range 80 {
		p, err := network.LoadPlan(t.TempDir(), used)
		if err != nil {
			t.Fatal(err)
		}
		if other, conflict := p.Conflict(used); conflict {
			t.Fatalf("%+v overlaps %s", p, other)
		}
		for _, prefix := range []netip.Prefix{p.Link, p.ClusterCIDR, p.ServiceCIDR} {
			if prefix.Masked() != prefix {
				t.Fatalf("%s is no network", prefix)
			}
		}
		used = append(used, p.Link, p.ClusterCIDR, p.ServiceCIDR)
		ids[p.ID] = true
	}
	if len(ids) != 80 {
		t.Errorf("%d different names of 80", len(ids))
	}
}

func TestPlanOfAFullMachineIsRefused(t *testing.T) {
	used := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10")}
	if p, err := network.LoadPlan(t.TempDir(), used); err == nil {
		t.Errorf("got %+v", p)
	}
}

func TestPlanAddresses(t *testing.T) {
	p := network.Plan{
		ID: "0123abcd", Link: netip.MustParsePrefix("10.129.128.0/30"),
		ServiceCIDR: netip.MustParsePrefix("10.129.0.0/17"), ClusterCIDR: netip.MustParsePrefix("10.128.0.0/16"),
	}
	if got := [3]string{p.HostAddress().String(), p.NodeAddress().String(), p.DNSAddress().String()}; got != [3]string{"10.129.128.1", "10.129.128.2", "10.129.0.10"} {
		t.Errorf("addresses %v", got)
	}
	if len(p.LinkName()) > 15 {
		t.Errorf("%s is too long for a link", p.LinkName())
	}
}

// FuzzPlan reads a damaged file: an error, or a plan that can be used.
func FuzzPlan(f *testing.F) {
	f.Add(`{"id":"0123abcd","link":"10.129.128.0/30","clusterCIDR":"10.128.0.0/16","serviceCIDR":"10.129.0.0/17"}`)
	f.Add(`{"id":"../../..","link":"10.129.128.0/30"}`)
	f.Add(`{}`)
	f.Fuzz(func(t *testing.T, content string) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "network.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := network.LoadPlan(dir, nil)
		if err != nil {
			return
		}
		if filepath.Base(p.CgroupName()) != p.CgroupName() || len(p.LinkName()) > 15 {
			t.Errorf("the id %q makes a path or a long name", p.ID)
		}
		if !p.Link.Contains(p.NodeAddress()) || !p.ServiceCIDR.Contains(p.DNSAddress()) {
			t.Errorf("addresses are not in their networks: %+v", p)
		}
	})
}
