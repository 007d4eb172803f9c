package controlplane

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericapiserver "k8s.io/apiserver/pkg/server"
	corev1 "k8s.io/client-go/listers/core/v1"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
)

const (
	// socketTimeout is how long a process beside the cluster may take for one
	// answer: the API server sets no time for what is proxied.
	socketTimeout = 30 * time.Second
	// socketConnections is how many there are to one socket at most; what is
	// asked beyond that waits.
	socketConnections = 8
)

// serviceSockets are unix sockets at which processes beside the cluster serve
// one of its Services each.
type serviceSockets map[types.NamespacedName]string

// parseServiceSockets reads NAMESPACE/NAME=SOCKET.
func parseServiceSockets(flags []string) (serviceSockets, error) {
	sockets := serviceSockets{}
	for _, flag := range flags {
		service, socket, _ := strings.Cut(flag, "=")
		namespace, name, _ := strings.Cut(service, "/")
		if len(validation.IsDNS1123Label(namespace)) > 0 || len(validation.IsDNS1035Label(name)) > 0 || socket == "" {
			return nil, fmt.Errorf("%q is not NAMESPACE/NAME=SOCKET", flag)
		}
		sockets[types.NamespacedName{Namespace: namespace, Name: name}] = socket
	}
	return sockets, nil
}

// serve has the API server's proxy of these Services (services/proxy) go to
// their sockets, as long as they have no selector: one with a selector is
// served by pods, as everywhere. The API server alone would proxy to pods only
// (isValidAddress in pkg/registry/core/service/storage).
//
// It stands where the API itself is: behind authentication, impersonation,
// audit and authorization, and goes by what those have judged.
func (s serviceSockets) serve(config *apiserver.Config) {
	if len(s) == 0 {
		return
	}
	services := config.KubeAPIs.ControlPlane.VersionedInformers.Core().V1().Services().Lister()
	// The aggregator has the chain that every request goes through first.
	generic := config.Aggregator.GenericConfig
	build := generic.BuildHandlerChainFunc
	generic.BuildHandlerChainFunc = func(api http.Handler, c *genericapiserver.Config) http.Handler {
		return build(s.handler(api, services), c)
	}
}

func (s serviceSockets) handler(api http.Handler, services corev1.ServiceLister) http.Handler {
	proxies := map[types.NamespacedName]http.Handler{}
	for service, socket := range s {
		proxies[service] = newSocketProxy(service, socket)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, ok := proxiedService(r.Context())
		if proxy := proxies[name]; ok && proxy != nil {
			if service, err := services.Services(name.Namespace).Get(name.Name); err == nil && len(service.Spec.Selector) == 0 {
				ctx, cancel := context.WithTimeout(r.Context(), socketTimeout)
				defer cancel()
				proxy.ServeHTTP(w, r.WithContext(ctx))
				return
			}
		}
		api.ServeHTTP(w, r)
	})
}

// proxiedService is the Service whose proxy a request asks for in plain HTTP,
// at any port.
func proxiedService(ctx context.Context) (types.NamespacedName, bool) {
	info, ok := request.RequestInfoFrom(ctx)
	if !ok || !info.IsResourceRequest || info.APIGroup != "" || info.Resource != "services" || info.Subresource != "proxy" {
		return types.NamespacedName{}, false
	}
	scheme, name, _, valid := utilnet.SplitSchemeNamePort(info.Name)
	return types.NamespacedName{Namespace: info.Namespace, Name: name}, valid && (scheme == "" || scheme == "http")
}

func newSocketProxy(service types.NamespacedName, socket string) http.Handler {
	dialer := net.Dialer{}
	return &httputil.ReverseProxy{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, "unix", socket)
			},
			MaxConnsPerHost:    socketConnections,
			IdleConnTimeout:    socketTimeout,
			DisableCompression: true,
		},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", service.Name+"."+service.Namespace
			r.Out.URL.Path, r.Out.URL.RawPath = proxiedPath(r.In.Context()), ""
			r.Out.Host = ""
			// Who asks is the API server's business: no credential goes on.
			header := http.Header{}
			for _, name := range []string{"Accept", "Content-Type", "User-Agent"} {
				header[name] = r.In.Header[name]
			}
			r.Out.Header = header
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			refused := apierrors.NewServiceUnavailable(fmt.Sprintf("service %q is served from beside the cluster, which does not answer: %v", service, err))
			responsewriters.ErrorNegotiated(refused, legacyscheme.Codecs, schema.GroupVersion{Version: "v1"}, w, r)
		},
		ErrorLog: log.New(io.Discard, "", 0), // of clients that went away
	}
}

// proxiedPath is what stands behind services/NAME/proxy in the path.
func proxiedPath(ctx context.Context) string {
	info, ok := request.RequestInfoFrom(ctx)
	if !ok || len(info.Parts) < 3 {
		return "/"
	}
	return "/" + strings.Join(info.Parts[3:], "/")
}
