package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/diff/apply"
	ctdmetadata "github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	ctdsnapshot "github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/diff/walking"
	"github.com/containerd/containerd/v2/plugins/snapshots/native"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	overlayutils "github.com/containerd/containerd/v2/plugins/snapshots/overlay/overlayutils"
	"github.com/containerd/platforms"
	"github.com/moby/buildkit/cache/metadata"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/executor/oci"
	"github.com/moby/buildkit/executor/resources"
	"github.com/moby/buildkit/executor/runcexecutor"
	containerdsnapshot "github.com/moby/buildkit/snapshot/containerd"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/leaseutil"
	"github.com/moby/buildkit/util/network"
	"github.com/moby/buildkit/util/network/proxyprovider"
	"github.com/moby/buildkit/worker/base"
	wlabel "github.com/moby/buildkit/worker/label"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"
)

// newWorker is BuildKit's worker on runc (its worker/runc.NewWorkerOpt), with a
// network of ours.
func newWorker(ctx context.Context, o Options, hosts docker.RegistryHosts) (_ *base.Worker, err error) {
	root := filepath.Join(o.Root, "worker")
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the worker: %w", err)
	}
	fail := func(what string, err error) (*base.Worker, error) {
		return nil, fmt.Errorf("%s of the build engine: %w", what, err)
	}
	opt := base.WorkerOpt{
		Root:          root,
		Labels:        map[string]string{wlabel.Executor: "oci", wlabel.Network: "proxy"},
		Platforms:     []ocispecs.Platform{platforms.Normalize(platforms.DefaultSpec())},
		RegistryHosts: hosts,
		GCPolicy:      policy(o.CacheBytes),
		MountPoolRoot: filepath.Join(root, "cachemounts"),
	}
	if opt.ID, err = base.ID(root); err != nil {
		return fail("name the worker", err)
	}
	if opt.ResourceMonitor, err = resources.NewMonitor(); err != nil {
		return fail("watch the resources", err)
	}
	out := &egress{}
	opt.NetworkProviders = map[pb.NetMode]network.Provider{pb.NetMode_UNSET: out, pb.NetMode_NONE: network.NewNoneProvider()}
	opt.ProxyProvider, err = proxyprovider.New(proxyprovider.Opt{
		Root: root, EgressProviders: map[pb.NetMode]network.Provider{pb.NetMode_UNSET: out},
	})
	if err != nil {
		return fail("make the network", err)
	}
	opt.Executor, err = runcexecutor.New(runcexecutor.Opt{
		Root: filepath.Join(root, "executor"), CommandCandidates: []string{o.Runtime},
		ProcessMode: oci.ProcessSandbox, ResourceMonitor: opt.ResourceMonitor, ProxyProvider: opt.ProxyProvider,
	}, opt.NetworkProviders)
	if err != nil {
		return fail("find the runtime", err)
	}
	if err := store(&opt); err != nil {
		return fail("open the store", err)
	}
	w, err := base.NewWorker(ctx, opt)
	if err != nil {
		return fail("start the worker", err)
	}
	return w, nil
}

// store opens the snapshots and the content below the worker's root.
func store(opt *base.WorkerOpt) error {
	snapshots, name, err := snapshotter(opt.Root)
	if err != nil {
		return err
	}
	blobs, err := local.NewStore(filepath.Join(opt.Root, "content"))
	if err != nil {
		return err
	}
	db, err := bolt.Open(filepath.Join(opt.Root, "containerdmeta.db"), 0o600, &bolt.Options{FreelistType: bolt.FreelistMapType})
	if err != nil {
		return err
	}
	mdb := ctdmetadata.NewDB(db, blobs, map[string]ctdsnapshot.Snapshotter{name: snapshots})
	if err := mdb.Init(context.Background()); err != nil {
		return err
	}
	const namespace = "buildkit"
	opt.MetadataStore, err = metadata.NewStore(filepath.Join(opt.Root, "metadata_v2.db"))
	if err != nil {
		return err
	}
	opt.Labels[wlabel.Snapshotter] = name
	opt.ContentStore = containerdsnapshot.NewContentStore(mdb.ContentStore(), namespace)
	opt.Snapshotter = containerdsnapshot.NewSnapshotter(name, mdb.Snapshotter(name), namespace, nil)
	opt.Applier = apply.NewFileSystemApplier(opt.ContentStore)
	opt.Differ = walking.NewWalkingDiff(opt.ContentStore)
	opt.LeaseManager = leaseutil.WithNamespace(ctdmetadata.NewLeaseManager(mdb), namespace)
	opt.GarbageCollect = mdb.GarbageCollect
	return nil
}

// snapshotter is overlayfs where the directory's file system allows it, and
// copies otherwise.
func snapshotter(root string) (ctdsnapshot.Snapshotter, string, error) {
	dir := filepath.Join(root, "snapshots")
	if overlayutils.Supported(root) == nil {
		s, err := overlay.NewSnapshotter(dir, overlay.AsynchronousRemove)
		return s, "overlayfs", err
	}
	s, err := native.NewSnapshotter(dir)
	return s, "native", err
}

// policy is what is removed from the cache, oldest first: what is easily made
// again where it is two days old and more than half a gigabyte, then whatever is
// over the limit.
func policy(limit int64) []client.PruneInfo {
	if limit == 0 {
		limit = 10e9
	}
	return []client.PruneInfo{
		{Filter: []string{"type==source.local", "type==exec.cachemount", "type==source.git.checkout"}, KeepDuration: 48 * 3600e9, MaxUsedSpace: min(limit, 512e6)},
		{MaxUsedSpace: limit},
		{All: true, MaxUsedSpace: limit},
	}
}
