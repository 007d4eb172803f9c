package release

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// getter is how Helm asks for its clients (genericclioptions.RESTClientGetter):
// from a configuration, and no file of this machine.
type getter struct {
	config    *rest.Config
	discovery discovery.CachedDiscoveryInterface
	mapper    meta.RESTMapper
}

func newIdentity(cfg *rest.Config) (*identity, error) {
	fail := func(err error) (*identity, error) {
		return nil, fmt.Errorf("prepare Helm's connection to the API server: %w", err)
	}
	http, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return fail(err)
	}
	clientset, err := kubernetes.NewForConfigAndClient(cfg, http)
	if err != nil {
		return fail(err)
	}
	dyn, err := dynamic.NewForConfigAndClient(cfg, http)
	if err != nil {
		return fail(err)
	}
	// Asks again where there was no match, so that new kinds are known.
	mapper, err := apiutil.NewDynamicRESTMapper(cfg, http)
	if err != nil {
		return fail(err)
	}
	g := &getter{config: cfg, discovery: memory.NewMemCacheClient(clientset.Discovery()), mapper: mapper}
	return &identity{getter: g, factory: cmdutil.NewFactory(g), clientset: clientset, dynamic: dyn}, nil
}

// ToRESTConfig implements genericclioptions.RESTClientGetter.
func (g *getter) ToRESTConfig() (*rest.Config, error) { return rest.CopyConfig(g.config), nil }

// ToDiscoveryClient implements genericclioptions.RESTClientGetter.
func (g *getter) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	return g.discovery, nil
}

// ToRESTMapper implements genericclioptions.RESTClientGetter.
func (g *getter) ToRESTMapper() (meta.RESTMapper, error) { return g.mapper, nil }

// ToRawKubeConfigLoader implements genericclioptions.RESTClientGetter. Only
// the default namespace is asked of it, which each release has of its own.
func (g *getter) ToRawKubeConfigLoader() clientcmd.ClientConfig {
	return clientcmd.NewDefaultClientConfig(*api.NewConfig(), &clientcmd.ConfigOverrides{})
}
