package controlplane

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/fairway-cd/fairway/cluster/pki"
)

// clusterName names the cluster, its context and its certificates.
const clusterName = "fairway"

// credentials are the files with which the parts of one control plane know
// each other.
type credentials struct {
	data       string
	ca         *pki.Authority
	frontProxy *pki.Authority
	serving    pki.Leaf
	clients    []pki.Leaf
}

// The identities that the parts of the control plane use. system:masters is
// the group that RBAC bootstrap gives everything: the controller manager needs
// the union of its controllers' rights and holds the authority's key anyway.
var (
	adminLeaf      = pki.Leaf{Name: "admin", CommonName: "fairway:admin", Organizations: []string{"system:masters"}}
	controllerLeaf = pki.Leaf{Name: "controller-manager", CommonName: "system:kube-controller-manager", Organizations: []string{"system:masters"}}
	schedulerLeaf  = pki.Leaf{Name: "scheduler", CommonName: "system:kube-scheduler"}
	kwokLeaf       = pki.Leaf{Name: "kwok", CommonName: "fairway:kwok", Organizations: []string{"system:masters"}}
	// kubeletClientLeaf is how the API server calls kubelets.
	kubeletClientLeaf = pki.Leaf{Name: "kubelet-client", CommonName: "fairway:apiserver", Organizations: []string{"system:masters"}}
	// frontProxyLeaf is how the API server calls aggregated API servers.
	frontProxyLeaf = pki.Leaf{Name: "front-proxy", CommonName: "front-proxy-client"}
)

// openCredentials makes what is missing and renews what ends soon.
func openCredentials(o *Options, serviceIP net.IP, now time.Time) (*credentials, error) {
	c := &credentials{
		data: o.Data,
		serving: pki.Leaf{
			Name:       "apiserver",
			CommonName: "kube-apiserver",
			DNSNames: []string{"localhost", "kubernetes", "kubernetes.default",
				"kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
			IPs: o.hosts(serviceIP),
		},
		clients: []pki.Leaf{adminLeaf, controllerLeaf, schedulerLeaf, kwokLeaf, kubeletClientLeaf},
	}
	if err := os.MkdirAll(c.dir(), 0o700); err != nil {
		return nil, fmt.Errorf("making the directory for certificates: %w", err)
	}
	var err error
	if c.ca, err = pki.OpenAuthority(c.dir(), "ca", clusterName+"-ca", now); err != nil {
		return nil, err
	}
	if c.frontProxy, err = pki.OpenAuthority(c.dir(), "front-proxy-ca", clusterName+"-front-proxy-ca", now); err != nil {
		return nil, err
	}
	if err := pki.EnsureKey(c.serviceAccountKey()); err != nil {
		return nil, err
	}
	return c, c.renew(now)
}

// renew replaces the certificates that end soon. The API server and the
// clients in this process pick the new ones up from their files.
func (c *credentials) renew(now time.Time) error {
	if _, err := c.frontProxy.Ensure(c.dir(), frontProxyLeaf, now); err != nil {
		return err
	}
	for _, leaf := range append([]pki.Leaf{c.serving}, c.clients...) {
		if _, err := c.ca.Ensure(c.dir(), leaf, now); err != nil {
			return err
		}
	}
	return nil
}

// writeKubeconfigs tells every client where the API server is.
func (c *credentials) writeKubeconfigs(server string) error {
	for _, leaf := range []pki.Leaf{controllerLeaf, schedulerLeaf, kwokLeaf} {
		k := pki.Kubeconfig{Cluster: clusterName, User: leaf.CommonName, Server: server}
		if err := k.WriteLinked(c.kubeconfig(leaf), c.ca, leaf.File(c.dir())); err != nil {
			return err
		}
	}
	admin := pki.Kubeconfig{Cluster: clusterName, User: clusterName, Server: server}
	return admin.WriteEmbedded(c.adminKubeconfig(), c.ca, adminLeaf.File(c.dir()))
}

func (c *credentials) dir() string             { return filepath.Join(c.data, "pki") }
func (c *credentials) adminKubeconfig() string { return filepath.Join(c.data, "admin.kubeconfig") }
func (c *credentials) serviceAccountKey() string {
	return filepath.Join(c.dir(), "service-account.key")
}
func (c *credentials) kubeconfig(leaf pki.Leaf) string {
	return filepath.Join(c.dir(), leaf.Name+".kubeconfig")
}

// firstServiceIP is the address that the API server gives to the Service
// "kubernetes": the first after the network's own.
func firstServiceIP(cidr string) (net.IP, error) {
	prefix, err := netip.ParsePrefix(cidr)
	if err != nil {
		return nil, fmt.Errorf("--service-cidr: %w", err)
	}
	return net.IP(prefix.Masked().Addr().Next().AsSlice()), nil
}
