package node

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"k8s.io/client-go/rest"

	"github.com/fairway-cd/fairway/cluster/node/inside"
	"github.com/fairway-cd/fairway/cluster/node/network"
	"github.com/fairway-cd/fairway/cluster/pki"
)

// authorityName is the control plane's name for its authority.
const authorityName = "ca"

// apiURL is where the node reaches the API server: at the host's end of the link.
func apiURL(config *rest.Config, plan network.Plan, port int) (string, error) {
	if port == 0 {
		u, err := url.Parse(config.Host)
		if err != nil {
			return "", fmt.Errorf("reading the API server's address: %w", err)
		}
		if port, err = strconv.Atoi(u.Port()); err != nil {
			return "", fmt.Errorf("reading the API server's port of %s: %w", config.Host, err)
		}
	}
	return "https://" + net.JoinHostPort(plan.HostAddress().String(), strconv.Itoa(port)), nil
}

// writeCredentials gives the kubelet and kube-proxy their certificates.
func writeCredentials(o *Options, plan network.Plan, api string) error {
	authorityFile := filepath.Join(o.PKI, authorityName+".crt")
	if _, err := os.Stat(authorityFile); err != nil {
		return fmt.Errorf("looking for the cluster's authority: %w", err)
	}
	now := time.Now()
	authority, err := pki.OpenAuthority(o.PKI, authorityName, "", now)
	if err != nil {
		return err
	}
	etc := layoutOf(o.Data, o.Programs).Etc
	if err := pki.WriteFile(filepath.Join(etc, "ca.crt"), authority.CertPEM(), 0o644); err != nil {
		return err
	}
	server := pki.Leaf{
		Name: "kubelet-server", CommonName: "system:node:" + o.Name, Organizations: []string{"system:nodes"},
		DNSNames: []string{o.Name}, IPs: []net.IP{plan.NodeAddress().AsSlice(), net.IPv4(127, 0, 0, 1)},
	}
	if _, err := authority.Ensure(etc, server, now); err != nil {
		return err
	}
	// Named as the Node authorizer and NodeRestriction want them, and as the
	// bootstrap policy binds kube-proxy's role.
	for file, leaf := range map[string]pki.Leaf{
		inside.KubeletKubeconfig: {Name: "kubelet", CommonName: "system:node:" + o.Name, Organizations: []string{"system:nodes"}},
		inside.ProxyKubeconfig:   {Name: "kube-proxy", CommonName: "system:kube-proxy"},
	} {
		if _, err := authority.Ensure(etc, leaf, now); err != nil {
			return err
		}
		k := pki.Kubeconfig{Cluster: "fairway", User: leaf.CommonName, Server: api}
		if err := k.WriteEmbedded(filepath.Join(etc, file), authority, leaf.File(etc)); err != nil {
			return err
		}
	}
	return nil
}
