package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-cd/fairway/api"
	fairway "github.com/fairway-cd/fairway/api/fairway/v1alpha1"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/git"
	"github.com/fairway-cd/fairway/internal/identity"
	"github.com/fairway-cd/fairway/internal/identity/certs"
	"github.com/fairway-cd/fairway/internal/mark"
	"github.com/fairway-cd/fairway/internal/registry"
)

// homeRepository is what the Git URL without a name means.
const homeRepository = "demo"

// stores are the parts that everything else stands on: a cluster that knows
// our kinds and roles, and the Git and image stores.
type stores struct {
	cluster  *cluster
	config   *rest.Config
	client   kubernetes.Interface
	access   core.Access
	git      *git.Store
	registry *registry.Registry
	tls      *certs.Authority
	// operatorDue is when the operator's token is to be renewed.
	operatorDue time.Time
	// refUpdated takes events to the engine, once there is one.
	refUpdated *events
	repos      *repositories
	// imagePushed is told of what is pushed to the registry.
	imagePushed atomic.Pointer[func(core.ImagePush)]
	// noticed is told of webhooks.
	noticed atomic.Pointer[func(kind, repository string)]
}

func (s *stores) close() {
	if s.registry != nil {
		_ = s.registry.Close()
	}
	if s.git != nil {
		_ = s.git.Close()
	}
}

// prepare makes the cluster ready for us, opens the stores, and writes the
// operator's kubeconfig.
func (s *Server) prepare(ctx context.Context, c *cluster) (_ *stores, err error) {
	s.progress(Step{Name: "installing kinds and roles"})
	st := &stores{cluster: c, config: c.config, refUpdated: &events{}}
	defer func() {
		if err != nil {
			st.close()
		}
	}()
	if err := s.install(ctx, st); err != nil {
		return nil, err
	}
	s.progress(Step{Name: "opening Git and registry"})
	if err := s.openStores(ctx, st); err != nil {
		return nil, err
	}
	hosts, err := hostsOf(s.inst.Config.Listen)
	if err != nil {
		return nil, err
	}
	if c.plan.real {
		hosts = append(hosts, c.plan.HostAddress)
	}
	st.tls, err = certs.Generate(s.inst.path("tls"), hosts)
	if err != nil {
		return nil, err
	}
	return st, nil
}

// writeAs sets how we speak to the API server: as fast as it lets us, and what
// names no field manager gets one that is not that of applies.
func writeAs(config *rest.Config) {
	config.QPS = -1
	config.UserAgent = mark.ControllerManager + "/" + Version
}

// install brings our kinds, roles, namespaces and accounts into the cluster.
func (s *Server) install(ctx context.Context, st *stores) error {
	// What is installed is little; client-go's default of five requests a
	// second would make seconds of it.
	st.config = rest.CopyConfig(st.config)
	writeAs(st.config)
	client, err := kubernetes.NewForConfig(st.config)
	if err != nil {
		return fmt.Errorf("connecting to the cluster: %w", err)
	}
	st.client = client
	group, installing := errgroup.WithContext(ctx)
	group.Go(func() error { return st.cluster.usable(installing) })
	group.Go(func() error { return installKinds(installing, st.config) })
	group.Go(func() error {
		if err := identity.EnsureRoles(installing, client); err != nil {
			return err
		}
		return identity.EnsureReaders(installing, client, controlNamespaces()...)
	})
	group.Go(func() error { return s.issueOperator(installing, st) })
	if st.cluster.embedded {
		for _, name := range controlNamespaces() {
			group.Go(func() error { return ensureNamespace(installing, client, name) })
		}
	}
	return group.Wait()
}

// controlNamespaces are those in which people's files put the objects that
// deliver: Argo CD's and Flux' own.
func controlNamespaces() []string { return []string{"argocd", "flux-system"} }

func installKinds(ctx context.Context, config *rest.Config) error {
	outcomes, err := api.Install(ctx, config)
	if err != nil {
		return fmt.Errorf("installing our kinds: %w", err)
	}
	for _, o := range outcomes {
		if o.Foreign {
			slog.Info("leaving alone a kind that somebody else installed", "crd", o.Name, "missingVersions", o.Missing)
		}
	}
	return nil
}

func ensureNamespace(ctx context.Context, client kubernetes.Interface, name string) error {
	_, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("making namespace %s: %w", name, err)
	}
	return nil
}

// openStores opens Git and the registry, both of which ask the cluster who
// may do what.
func (s *Server) openStores(ctx context.Context, st *stores) error {
	access, err := identity.New(st.config, identity.Options{})
	if err != nil {
		return err
	}
	st.access = access
	st.git, err = git.Open(s.inst.path("git"), git.Options{
		Deliver: st.refUpdated.deliver,
		Create: func(ctx context.Context, _ core.User, name core.Name) error {
			return st.repos.ensureObject(ctx, name)
		},
		Announced: func(url string) {
			_ = st.refUpdated.deliver(context.Background(), core.RefUpdate{URL: url})
		},
		Noticed: func(kind, repository string) {
			if tell := st.noticed.Load(); tell != nil {
				(*tell)(kind, repository)
			}
		},
		HomeRepository: core.Name{Namespace: core.DefaultNamespace, Name: homeRepository},
		Bases:          s.inst.bases(),
	})
	if err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	if err := fairway.AddToScheme(scheme); err != nil {
		return err
	}
	objects, err := client.New(st.config, client.Options{Scheme: scheme})
	if err != nil {
		return fmt.Errorf("connecting to the cluster: %w", err)
	}
	st.repos = &repositories{store: st.git, client: objects, base: s.inst.URL()}
	registry.RouteLogs(slog.Default())
	st.registry, err = registry.New(ctx, registry.Options{
		Dir: s.inst.path("registry"), Access: access, HasNamespace: st.hasNamespace, Pushed: st.pushed,
	})
	return err
}

// hasNamespace says with a *core.NoNamespaceError that there is no such
// tenant.
func (s *stores) hasNamespace(ctx context.Context, name string) error {
	_, err := s.client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return &core.NoNamespaceError{Namespace: name}
	case err != nil:
		return &core.UnavailableError{What: "the API server", Err: err}
	}
	return nil
}

// hostsOf are the names by which listeners at these addresses are reached: for
// one on all addresses, whatever this machine is called now.
func hostsOf(listen []string) ([]string, error) {
	hosts := []string{"localhost", "127.0.0.1", "::1"}
	for _, address := range listen {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("listening on %q: %w", address, err)
		}
		if ip := net.ParseIP(host); host != "" && (ip == nil || !ip.IsUnspecified()) {
			hosts = append(hosts, host)
			continue
		}
		all, err := net.InterfaceAddrs()
		if err != nil {
			return nil, fmt.Errorf("looking up this machine's addresses: %w", err)
		}
		for _, address := range all {
			if network, ok := address.(*net.IPNet); ok && network.IP.IsGlobalUnicast() {
				hosts = append(hosts, network.IP.String())
			}
		}
		if name, err := os.Hostname(); err == nil {
			if name = strings.ToLower(name); len(validation.IsDNS1123Subdomain(name)) == 0 {
				hosts = append(hosts, name)
			}
		}
	}
	slices.Sort(hosts)
	return slices.Compact(hosts), nil
}

// bases are the URLs under which manifests may name our own repositories.
func (i *Instance) bases() []string {
	var all []string
	for _, port := range append([]int{i.Config.Port}, i.Config.FormerPorts...) {
		for _, host := range []string{"127.0.0.1", "localhost", "::1"} {
			all = append(all, "http://"+net.JoinHostPort(host, strconv.Itoa(port))+"/git/")
		}
	}
	for _, address := range i.Config.Listen {
		all = append(all, "https://"+address+"/git/")
	}
	return all
}

// writeKubeconfig writes the kubeconfig of the operator: the cluster as we
// reach it, with the operator's token.
func (i *Instance) writeKubeconfig(c *rest.Config, token string) error {
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters["fairway"] = &clientcmdapi.Cluster{
		Server: c.Host, CertificateAuthorityData: c.CAData, CertificateAuthority: c.CAFile,
		InsecureSkipTLSVerify: c.Insecure, TLSServerName: c.ServerName,
	}
	cfg.AuthInfos["fairway"] = &clientcmdapi.AuthInfo{Token: token}
	cfg.Contexts["fairway"] = &clientcmdapi.Context{Cluster: "fairway", AuthInfo: "fairway"}
	cfg.CurrentContext = "fairway"
	data, err := clientcmd.Write(*cfg)
	if err != nil {
		return fmt.Errorf("writing the kubeconfig: %w", err)
	}
	return writeFile(i.KubeconfigPath(), data)
}

// Token is the operator's credential of a running instance.
func (i *Instance) Token() (string, error) {
	state, err := i.readState()
	if err != nil {
		return "", fmt.Errorf("reading the operator's credential: %w", err)
	}
	if state.Token == "" {
		return "", &StartError{"the instance in " + i.dir + " is still starting", "'fairway up' waits until it is ready"}
	}
	return state.Token, nil
}

// events hands reference updates to the engine. Until there is one, a
// delivery fails, and is tried again by the outbox.
type events struct {
	mu      sync.Mutex
	handler func(context.Context, core.RefUpdate) error
}

func (e *events) to(handler func(context.Context, core.RefUpdate) error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.handler = handler
}

func (e *events) deliver(ctx context.Context, u core.RefUpdate) error {
	e.mu.Lock()
	handler := e.handler
	e.mu.Unlock()
	if handler == nil {
		return &core.UnavailableError{What: "the engine", Err: errors.New("it is still starting")}
	}
	return handler(ctx, u)
}

// logName is the file below the log directory.
func (i *Instance) logName(name string) string { return filepath.Join(i.dir, "log", name) }
