package pki

import (
	"fmt"
	"os"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// Kubeconfig describes how a user reaches a cluster: the name of cluster, user
// and context, and the API server's URL.
type Kubeconfig struct {
	Cluster string
	User    string
	Server  string
}

// WriteLinked writes a kubeconfig that points at the files of the authority
// and the leaf. For programs on this machine: client-go reads a renewed
// certificate from its file without a restart.
func (k Kubeconfig) WriteLinked(file string, authority *Authority, leafFile string) error {
	return k.write(file,
		&api.Cluster{Server: k.Server, CertificateAuthority: authority.CertFile()},
		&api.AuthInfo{ClientCertificate: leafFile, ClientKey: leafFile})
}

// WriteEmbedded writes a kubeconfig that holds all it needs and may be copied
// elsewhere, until the certificate in it ends.
func (k Kubeconfig) WriteEmbedded(file string, authority *Authority, leafFile string) error {
	leaf, err := os.ReadFile(leafFile)
	if err != nil {
		return fmt.Errorf("reading a certificate for %s: %w", file, err)
	}
	return k.write(file,
		&api.Cluster{Server: k.Server, CertificateAuthorityData: authority.CertPEM()},
		&api.AuthInfo{ClientCertificateData: leaf, ClientKeyData: leaf})
}

func (k Kubeconfig) write(file string, cluster *api.Cluster, user *api.AuthInfo) error {
	content, err := clientcmd.Write(api.Config{
		Clusters:       map[string]*api.Cluster{k.Cluster: cluster},
		AuthInfos:      map[string]*api.AuthInfo{k.User: user},
		Contexts:       map[string]*api.Context{k.Cluster: {Cluster: k.Cluster, AuthInfo: k.User}},
		CurrentContext: k.Cluster,
	})
	if err != nil {
		return fmt.Errorf("encoding %s: %w", file, err)
	}
	return WriteFile(file, content, 0o600)
}
