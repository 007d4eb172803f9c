package network

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestNameservers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	content := "# nameserver 192.0.2.9\nsearch example\nnameserver 127.0.0.53\nnameserver\tfe80::1%eth0\nnameserver no-address\noptions edns0\n"
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	servers, err := nameservers(file)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range servers {
		got = append(got, s.String())
	}
	if want := []string{"127.0.0.53:53", "[fe80::1%eth0]:53"}; !slices.Equal(got, want) {
		t.Errorf("got %v, not %v", got, want)
	}
}

func FuzzNameservers(f *testing.F) {
	f.Add([]byte("nameserver 127.0.0.53\n"))
	f.Add([]byte("nameserver ::1 more\r\nnameserver\n\x00"))
	f.Fuzz(func(t *testing.T, content []byte) {
		file := filepath.Join(t.TempDir(), "resolv.conf")
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		servers, err := nameservers(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range servers {
			if !s.IsValid() || s.Port() != dnsPort {
				t.Errorf("%q gives %s", content, s)
			}
		}
	})
}
