package controlplane

import (
	"net"
	"strings"
	"testing"
)

func TestOptionsRefuseWhatCannotWork(t *testing.T) {
	for _, test := range []struct {
		change func(*Options)
		want   string
	}{
		{func(o *Options) { o.Data = "" }, "--data"},
		{func(o *Options) { o.Address = "localhost" }, "--address"},
		{func(o *Options) { o.Port = 65536 }, "--port"},
		{func(o *Options) { o.Port = -1 }, "--port"},
		{func(o *Options) { o.ServiceCIDR = "10.96.0.0" }, "--service-cidr"},
		{func(o *Options) { o.ClusterCIDR = "" }, "--cluster-cidr"},
		{func(o *Options) { o.NodeCIDRMask = 8 }, "--node-cidr-mask-size"},
		{func(o *Options) { o.KwokNodes = -1 }, "--kwok-nodes"},
		{func(o *Options) { o.AlsoListen = []string{"veth0"} }, "--also-listen"},
		{func(o *Options) { o.AdvertiseAddress = "127.0.0.1" }, "--advertise-address"},
		{func(o *Options) { o.AdvertiseAddress = "0.0.0.0" }, "--advertise-address"},
		{func(o *Options) { o.AdvertiseAddress = "here" }, "--advertise-address"},
		{func(o *Options) { o.ServiceSockets = []string{"default/web"} }, "--service-socket"},
		{func(o *Options) { o.ServiceSockets = []string{"web=web.sock"} }, "--service-socket"},
		{func(o *Options) { o.ServiceSockets = []string{"default/web/proxy=web.sock"} }, "--service-socket"},
	} {
		o := NewOptions()
		o.Data = t.TempDir()
		test.change(o)
		if err := o.complete(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("got %v, want an error about %s", err, test.want)
		}
	}
}

func TestAdvertiseAddressIsOneThatPodsReach(t *testing.T) {
	for _, test := range []struct {
		name, address, advertise string
		also                     []string
		want                     string
	}{
		{name: "loopback alone", address: "127.0.0.1", want: ""},
		{name: "everywhere", address: "0.0.0.0", want: ""},
		{name: "the main address", address: "10.1.0.1", want: "10.1.0.1"},
		{name: "a second address", address: "127.0.0.1", also: []string{"127.0.0.2", "10.1.0.1:6443"}, want: "10.1.0.1"},
		{name: "given", address: "10.1.0.1", advertise: "10.2.0.1", want: "10.2.0.1"},
	} {
		o := NewOptions()
		o.Data, o.Address, o.AlsoListen, o.AdvertiseAddress = t.TempDir(), test.address, test.also, test.advertise
		if err := o.complete(); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if o.AdvertiseAddress != test.want {
			t.Errorf("%s: advertises %q, want %q", test.name, o.AdvertiseAddress, test.want)
		}
	}
}

func TestHostsAreAllAddressesOnce(t *testing.T) {
	o := NewOptions()
	o.Data, o.Address, o.AlsoListen = t.TempDir(), "0.0.0.0", []string{"10.1.0.1:6443", "10.1.0.1", "127.0.0.1"}
	if err := o.complete(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, ip := range o.hosts(net.IPv4(10, 96, 0, 1)) {
		got = append(got, ip.String())
	}
	if want := "127.0.0.1 ::1 10.96.0.1 10.1.0.1"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestFirstServiceIP(t *testing.T) {
	for cidr, want := range map[string]string{"10.96.0.0/16": "10.96.0.1", "10.96.7.9/24": "10.96.7.1", "fd00::/112": "fd00::1"} {
		got, err := firstServiceIP(cidr)
		if err != nil || got.String() != want {
			t.Errorf("%s: got %v, %v; want %s", cidr, got, err, want)
		}
	}
}

func TestLockNamesItsHolder(t *testing.T) {
	dir := t.TempDir()
	lock, err := lockData(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = lockData(dir)
	inUse, ok := err.(*InUseError)
	if !ok || inUse.PID == 0 || inUse.Data != dir {
		t.Fatalf("got %#v", err)
	}
	lock.Close()
	lock, err = lockData(dir)
	if err != nil {
		t.Fatal(err)
	}
	lock.Close()
}
