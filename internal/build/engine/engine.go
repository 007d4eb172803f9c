// Package engine is BuildKit put together for Fairway: one worker on runc, the
// Dockerfile frontend, a cache with a limit, and a network in which a build
// reaches nothing of the machine that it runs on.
//
// It changes its process for good (the umask, for one), and so is for a process
// of its own: see docs/design/build.md.
package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"github.com/moby/buildkit/cache/remotecache"
	inlineremotecache "github.com/moby/buildkit/cache/remotecache/inline"
	localremotecache "github.com/moby/buildkit/cache/remotecache/local"
	registryremotecache "github.com/moby/buildkit/cache/remotecache/registry"
	"github.com/moby/buildkit/control"
	"github.com/moby/buildkit/frontend"
	dockerfile "github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/moby/buildkit/frontend/gateway/forwarder"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/bboltcachestorage"
	"github.com/moby/buildkit/util/db/boltutil"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/moby/buildkit/util/resolver"
	"github.com/moby/buildkit/util/resolver/config"
	"github.com/moby/buildkit/worker"
	"github.com/moby/buildkit/worker/base"
	fscopy "github.com/tonistiigi/fsutil/copy"
	bolt "go.etcd.io/bbolt"
	"google.golang.org/grpc"
)

// Options say what an engine is made of. Root and Runtime are required.
type Options struct {
	// Root is the directory of its cache and its state. One engine at a time
	// has it.
	Root string
	// Runtime is the program that runs containers: runc.
	Runtime string
	// Registries are by host: what stands in for it, and how it is spoken to.
	Registries map[string]config.RegistryConfig
	// CacheBytes is how much the cache may hold; 0 is 10 GB.
	CacheBytes int64
	// Idle, where set, is how long the engine lives without anybody connected.
	Idle time.Duration
}

// BusyError says that another engine has the directory.
type BusyError struct{ Root string }

func (e *BusyError) Error() string {
	return fmt.Sprintf("another build engine works in %s", e.Root)
}

// Serve answers BuildKit's API on the socket of its root until ctx ends, or
// nobody has been connected for a while. Where another engine has the root it is
// a BusyError.
func Serve(ctx context.Context, o Options) error {
	if err := os.MkdirAll(o.Root, 0o700); err != nil {
		return fmt.Errorf("make the directory of the build engine: %w", err)
	}
	lock := flock.New(filepath.Join(o.Root, "lock"))
	// Somebody may have it for a moment, to see whether it is free.
	locking, giveUp := context.WithTimeout(ctx, time.Second)
	defer giveUp()
	if ok, err := lock.TryLockContext(locking, 20*time.Millisecond); !ok {
		if locking.Err() != nil {
			return &BusyError{o.Root}
		}
		return fmt.Errorf("lock %s: %w", o.Root, err)
	}
	defer func() { _ = lock.Unlock() }()
	// What a build makes has the modes that the build says.
	syscall.Umask(0)
	fscopy.UmaskIsZero = true

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	parts, err := assemble(ctx, o)
	if err != nil {
		return err
	}
	defer parts.close()
	// Whoever has the lock has the socket: what is there is a dead engine's.
	ln, err := listen(filepath.Join(o.Root, Socket))
	if err != nil {
		return err
	}
	defer ln.Close()
	server := grpc.NewServer(grpc.MaxRecvMsgSize(messageLimit), grpc.MaxSendMsgSize(messageLimit),
		// Errors go with their types, and so with the lines that they are of.
		grpc.UnaryInterceptor(grpcerrors.UnaryServerInterceptor), grpc.StreamInterceptor(grpcerrors.StreamServerInterceptor))
	parts.controller.Register(server)
	counted := &counted{Listener: ln}
	stopped := context.AfterFunc(ctx, server.Stop)
	defer stopped()
	if o.Idle > 0 {
		go counted.watch(ctx, o.Idle, cancel)
	}
	if err := server.Serve(counted); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve the build engine: %w", err)
	}
	return nil
}

// messageLimit is BuildKit's own: a Dockerfile and its definition fit.
const messageLimit = 16 << 20

// parts are what an engine holds open.
type parts struct {
	controller *control.Controller
	worker     *base.Worker
	closers    []func() error
}

func (p *parts) close() {
	for i := len(p.closers) - 1; i >= 0; i-- {
		_ = p.closers[i]()
	}
}

func assemble(ctx context.Context, o Options) (_ *parts, err error) {
	p := &parts{}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	sessions, err := session.NewManager()
	if err != nil {
		return nil, fmt.Errorf("prepare the sessions of the build engine: %w", err)
	}
	hosts := resolver.NewRegistryConfig(o.Registries)
	w, err := newWorker(ctx, o, hosts)
	if err != nil {
		return nil, err
	}
	p.worker = w
	p.closers = append(p.closers, w.Close)
	workers := &worker.Controller{}
	if err := workers.Add(w); err != nil {
		return nil, fmt.Errorf("add the worker of the build engine: %w", err)
	}
	storage, err := bboltcachestorage.NewStore(filepath.Join(o.Root, "cache.db"))
	if err != nil {
		return nil, fmt.Errorf("open the cache of builds: %w", err)
	}
	p.closers = append(p.closers, storage.Close)
	history, err := boltutil.SafeOpen(filepath.Join(o.Root, "history.db"), 0o600, &bolt.Options{FreelistType: bolt.FreelistMapType})
	if err != nil {
		return nil, fmt.Errorf("open the history of builds: %w", err)
	}
	p.closers = append(p.closers, history.Close)
	p.controller, err = control.NewController(control.Opt{
		SessionManager:   sessions,
		WorkerController: workers,
		Frontends: map[string]frontend.Frontend{
			"dockerfile.v0": forwarder.NewGatewayForwarder(workers.Infos(), dockerfile.Build),
		},
		CacheManager: solver.NewCacheManager(ctx, "local", storage, worker.NewCacheResultStorage(workers)),
		ResolveCacheExporterFuncs: map[string]remotecache.ResolveCacheExporterFunc{
			"registry": registryremotecache.ResolveCacheExporterFunc(sessions, hosts),
			"local":    localremotecache.ResolveCacheExporterFunc(sessions),
			"inline":   inlineremotecache.ResolveCacheExporterFunc(),
		},
		ResolveCacheImporterFuncs: map[string]remotecache.ResolveCacheImporterFunc{
			"registry": registryremotecache.ResolveCacheImporterFunc(sessions, w.ContentStore(), hosts),
			"local":    localremotecache.ResolveCacheImporterFunc(sessions),
		},
		HistoryDB:      history,
		CacheStore:     storage,
		LeaseManager:   w.LeaseManager(),
		ContentStore:   w.ContentStore(),
		ProxyNetwork:   true,
		GarbageCollect: func(ctx context.Context) error { _, err := w.WorkerOpt.GarbageCollect(ctx); return err },
		GracefulStop:   ctx.Done(),
	})
	if err != nil {
		return nil, fmt.Errorf("put the build engine together: %w", err)
	}
	p.closers = append(p.closers, p.controller.Close)
	return p, nil
}

// listen returns a socket that only we may open.
func listen(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the socket of an engine that is gone: %w", err)
	}
	old := syscall.Umask(0o177)
	defer syscall.Umask(old)
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen for builds: %w", err)
	}
	return ln, nil
}

// Socket is the socket's name below the root.
const Socket = "engine.sock"
