package fleet

import (
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// FromKubeconfig reads the current context of a kubeconfig, which is of
// somebody else: what would run a program or read a file here is refused. name
// is for people. Errors are *FieldError.
func FromKubeconfig(name string, text []byte) (*Cluster, error) {
	if len(text) > maxDescription {
		return nil, &FieldError{"kubeconfig", "is too long"}
	}
	config, err := clientcmd.Load(text)
	if err != nil { // what is wrong may be a part of the credential
		return nil, &FieldError{"kubeconfig", "is not YAML or JSON of a kubeconfig"}
	}
	context := config.Contexts[config.CurrentContext]
	if context == nil {
		return nil, &FieldError{"current-context", "names no context of the kubeconfig"}
	}
	cluster, user := config.Clusters[context.Cluster], config.AuthInfos[context.AuthInfo]
	switch {
	case cluster == nil:
		return nil, &FieldError{"contexts", "the current context names no cluster of the kubeconfig"}
	case user == nil:
		return nil, &FieldError{"contexts", "the current context names no user of the kubeconfig"}
	}
	if err := refuseOutside(cluster, user); err != nil {
		return nil, err
	}
	cfg, err := clientcmd.NewNonInteractiveClientConfig(*config, config.CurrentContext, &clientcmd.ConfigOverrides{}, nil).ClientConfig()
	if err != nil {
		return nil, &FieldError{"kubeconfig", "does not describe a connection"}
	}
	c := &Cluster{Name: name, Server: NormalServer(cluster.Server), ClusterScoped: true, config: cfg}
	return c, c.seal()
}

// refuseOutside refuses by name what is not in the kubeconfig itself.
func refuseOutside(cluster *api.Cluster, user *api.AuthInfo) error {
	for field, set := range map[string]bool{
		"clusters.certificate-authority": cluster.CertificateAuthority != "",
		"users.client-certificate":       user.ClientCertificate != "",
		"users.client-key":               user.ClientKey != "",
		"users.tokenFile":                user.TokenFile != "",
	} {
		if set {
			return &FieldError{field, "is a file of the server and refused: put the data into the kubeconfig"}
		}
	}
	switch {
	case user.Exec != nil:
		return &FieldError{"users.exec", "is a program and refused: put a token or a certificate into the kubeconfig"}
	case user.AuthProvider != nil:
		return &FieldError{"users.auth-provider", "is refused: put a token or a certificate into the kubeconfig"}
	}
	return nil
}
