package e2e

import (
	"context"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// apiProxy stands between an instance and its API server, over TLS and HTTP/2
// as the API server itself, and spoils what it is told to.
type apiProxy struct {
	server *httptest.Server
	next   http.Handler
	// spoil is asked before each request, and answers it where it returns true.
	spoil atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
	// spoiled counts those that it has answered or held up.
	spoiled atomic.Int64

	mu      sync.Mutex
	watches map[*http.Request]context.CancelFunc
}

// newAPIProxy starts one in front of the API server.
func newAPIProxy(t *testing.T, upstream *rest.Config) *apiProxy {
	t.Helper()
	target, err := url.Parse(upstream.Host)
	if err != nil {
		t.Fatal(err)
	}
	transport, err := rest.TransportFor(upstream)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Transport: transport, FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Header.Del("Authorization")
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	p := &apiProxy{next: proxy, watches: map[*http.Request]context.CancelFunc{}}
	p.server = httptest.NewUnstartedServer(p)
	p.server.EnableHTTP2 = true
	p.server.StartTLS()
	t.Cleanup(func() {
		p.server.CloseClientConnections()
		p.server.Close()
	})
	return p
}

// ServeHTTP implements http.Handler.
func (p *apiProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if spoil := p.spoil.Load(); spoil != nil && (*spoil)(w, r) {
		p.spoiled.Add(1)
		return
	}
	if r.URL.Query().Has("watch") {
		ctx, cancel := context.WithCancel(r.Context())
		r = r.WithContext(ctx)
		p.mu.Lock()
		p.watches[r] = cancel
		p.mu.Unlock()
		defer func() {
			p.mu.Lock()
			delete(p.watches, r)
			p.mu.Unlock()
			cancel()
		}()
	}
	p.next.ServeHTTP(w, r)
}

// set has requests spoiled from now on; nil ends that.
func (p *apiProxy) set(spoil func(http.ResponseWriter, *http.Request) bool) {
	if spoil == nil {
		p.spoil.Store(nil)
		return
	}
	p.spoil.Store(&spoil)
}

// dropWatches cuts all watches off in the middle, and says how many.
func (p *apiProxy) dropWatches() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, cancel := range p.watches {
		cancel()
	}
	return len(p.watches)
}

// refuse answers as the API server does that has too much to do, or is broken.
func refuse(w http.ResponseWriter, code int) {
	reasons := map[int]string{http.StatusTooManyRequests: "TooManyRequests", http.StatusInternalServerError: "InternalError", http.StatusServiceUnavailable: "ServiceUnavailable"}
	w.Header().Set("Content-Type", "application/json")
	if code == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(code)
	_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","message":"spoiled by a test","reason":"` + reasons[code] + `","code":` + strconv.Itoa(code) + `}`))
}

// kubeconfig writes one that leads to the proxy, which has the administrator's
// credential itself.
func (p *apiProxy) kubeconfig(t *testing.T) string {
	t.Helper()
	c := clientcmdapi.NewConfig()
	c.Clusters["proxy"] = &clientcmdapi.Cluster{Server: p.server.URL,
		CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.server.Certificate().Raw})}
	c.AuthInfos["proxy"] = &clientcmdapi.AuthInfo{Token: "any"}
	c.Contexts["proxy"] = &clientcmdapi.Context{Cluster: "proxy", AuthInfo: "proxy"}
	c.CurrentContext = "proxy"
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*c, path); err != nil {
		t.Fatal(err)
	}
	return path
}
