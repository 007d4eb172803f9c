package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/fairway-cd/fairway/internal/controller"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/footprint"
	"github.com/fairway-cd/fairway/internal/git"
	"github.com/fairway-cd/fairway/internal/identity"
	"github.com/fairway-cd/fairway/internal/identity/certs"
	"github.com/fairway-cd/fairway/internal/shard"
)

// ControllerOptions are those of a replica of the engine.
type ControllerOptions struct {
	// Data is a directory of the replica's own, for mirrors and renders. It can
	// be lost.
	Data string
	// Kubeconfig is the cluster's; empty is the one that the process runs in.
	Kubeconfig string
	// Namespace is where the Leases are.
	Namespace string
	// Shards is how many parts the work has, the same for all replicas.
	Shards int
	// Listen serves /healthz and /metrics; empty serves nothing. Off loopback it
	// is served with TLS: with the certificate of TLSCert and TLSKey, or one that
	// the replica makes.
	Listen          string
	TLSCert, TLSKey string
	// Lockdown is what Flux' kinds are held to.
	Lockdown controller.Lockdown
}

// RunController runs one replica of the engine, without Git server, registry
// and UI, until ctx ends: the deliveries of a cluster are shared among as many
// as there are. Sources are repositories elsewhere.
func RunController(ctx context.Context, o ControllerOptions) error {
	inst, err := InstanceAt(o.Data)
	if err != nil {
		return err
	}
	inst.Config.Lockdown = o.Lockdown
	s := NewServer(inst, func(Step) {})
	lock, err := inst.lock()
	if err != nil {
		return err
	}
	defer func() { _ = lock.Unlock() }()
	st, err := s.openController(ctx, o)
	if err != nil {
		return err
	}
	defer st.close()
	client, err := kubernetes.NewForConfig(st.config)
	if err != nil {
		return fmt.Errorf("connecting to the cluster: %w", err)
	}
	shards, err := shard.New(client.CoordinationV1(), shard.Options{
		Name: "fairway", Namespace: o.Namespace, Identity: replicaIdentity(), Count: o.Shards,
	})
	if err != nil {
		return err
	}
	held := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "fairway_shards", Help: "The shards that this replica has."},
		func() float64 { return float64(shards.Held()) })
	if err := metrics.Registry.Register(held); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	e, err := s.newEngine(st, shards)
	if err != nil {
		return err
	}
	err = together(ctx, func(ctx context.Context, group *errgroup.Group) error {
		if err := s.serveReplica(ctx, group, st, o); err != nil {
			return err
		}
		group.Go(func() error { return e.stage.workers(ctx) })
		group.Go(func() error { return e.Run(ctx) })
		if err := e.Ready(ctx); err != nil {
			return err
		}
		group.Go(func() error { return st.git.Run(ctx) })
		group.Go(func() error { return e.sweepMirrors(ctx) })
		group.Go(func() error {
			footprint.Own().Keep(ctx)
			return nil
		})
		slog.Info("the replica is up", "version", Version)
		return nil
	})
	slog.Info("the replica is stopping", "cause", context.Cause(ctx), "error", err)
	return err
}

// openController opens what a replica stands on.
func (s *Server) openController(ctx context.Context, o ControllerOptions) (*stores, error) {
	config, err := replicaConfig(o.Kubeconfig)
	if err != nil {
		return nil, err
	}
	st := &stores{cluster: &cluster{config: config}, config: config, refUpdated: &events{}}
	if st.client, err = kubernetes.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("connecting to the cluster: %w", err)
	}
	if err := installKinds(ctx, config); err != nil {
		return nil, err
	}
	if st.access, err = identity.New(config, identity.Options{}); err != nil {
		return nil, err
	}
	st.git, err = git.Open(s.inst.path("git"), git.Options{
		Deliver: st.refUpdated.deliver,
		Announced: func(url string) {
			_ = st.refUpdated.deliver(context.Background(), core.RefUpdate{URL: url})
		},
	})
	return st, err
}

func replicaConfig(path string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", path) // "" is the cluster that we run in
	if err != nil {
		return nil, &StartError{fmt.Sprintf("no cluster to work on: %v", err), "name one with --kubeconfig, or run in a pod with a ServiceAccount"}
	}
	writeAs(config)
	return config, nil
}

// serveReplica serves health to everybody and metrics to who may see them.
func (s *Server) serveReplica(ctx context.Context, group *errgroup.Group, st *stores, o ControllerOptions) error {
	if o.Listen == "" {
		return nil
	}
	l, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return &StartError{fmt.Sprintf("%s cannot be listened on: %v", o.Listen, err), "see --listen"}
	}
	one := listener{Listener: l}
	if certs.NeedsTLS(l.Addr()) {
		source, err := s.replicaCertificates(o)
		if err != nil {
			return errors.Join(err, l.Close())
		}
		one.tls = certs.Config(source)
		group.Go(func() error { return source.Run(ctx) })
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.Handle("/metrics", identity.Require(st.access, func(*http.Request) core.Action {
		return core.Action{Verb: "get", Resource: "nodes", Name: "metrics"}
	})(promhttp.HandlerFor(metrics.Registry, promhttp.HandlerOpts{})))
	serveListeners(ctx, group, mux, []listener{one})
	return nil
}

// replicaCertificates are the files that were given, read again as they
// change, or the replica's own, of an authority in its directory.
func (s *Server) replicaCertificates(o ControllerOptions) (certs.Source, error) {
	if o.TLSCert != "" || o.TLSKey != "" {
		return certs.Load(o.TLSCert, o.TLSKey)
	}
	hosts, err := hostsOf([]string{o.Listen})
	if err != nil {
		return nil, err
	}
	return certs.Generate(s.inst.path("tls"), hosts)
}

var notInNames = regexp.MustCompile(`[^a-z0-9-]+`)

// replicaIdentity is new for each process: one that was killed must not be
// taken for its successor.
func replicaIdentity() string {
	name, err := os.Hostname()
	if err != nil {
		name = "replica"
	}
	name = strings.Trim(notInNames.ReplaceAllString(strings.ToLower(name), "-"), "-")
	return fmt.Sprintf("%.40s-%s", name, rand.String(8))
}
