package release

import (
	"fmt"
	"net/http"

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

	"github.com/fairway-cd/fairway/internal/core/fence"
)

// getter is how Helm asks for its clients (genericclioptions.RESTClientGetter):
// from a configuration, and no file of this machine.
type getter struct {
	config    *rest.Config
	discovery discovery.CachedDiscoveryInterface
	mapper    meta.RESTMapper
}

func newIdentity(cfg *rest.Config) (*identity, error) {
	http, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, unprepared(err)
	}
	found, err := discovery.NewDiscoveryClientForConfigAndClient(cfg, http)
	if err != nil {
		return nil, unprepared(err)
	}
	// Asks again where there was no match, so that new kinds are known.
	mapper, err := apiutil.NewDynamicRESTMapper(cfg, http)
	if err != nil {
		return nil, unprepared(err)
	}
	return identityOf(&getter{config: cfg, discovery: memory.NewMemCacheClient(found), mapper: mapper})
}

func unprepared(err error) error {
	return fmt.Errorf("prepare Helm's connection to the API server: %w", err)
}

// identityOf has the connections of a getter. The transport below them is
// shared by all that go to one cluster.
func identityOf(g *getter) (*identity, error) {
	http, err := rest.HTTPClientFor(g.config)
	if err != nil {
		return nil, unprepared(err)
	}
	clientset, err := kubernetes.NewForConfigAndClient(g.config, http)
	if err != nil {
		return nil, unprepared(err)
	}
	dyn, err := dynamic.NewForConfigAndClient(g.config, http)
	if err != nil {
		return nil, unprepared(err)
	}
	return &identity{getter: g, factory: cmdutil.NewFactory(g), clientset: clientset, dynamic: dyn}, nil
}

// fenced is the configuration with a fence around each request, where there is
// one, and with each write bound to what is there.
func fenced(cfg *rest.Config, f fence.Fence) *rest.Config {
	if f == nil {
		return cfg
	}
	cfg = rest.CopyConfig(cfg)
	cfg.ContentType = "application/json" // what decided reads
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return &decided{next} })
	cfg.Wrap(fence.Bound(f))
	return cfg
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
