package controlplane

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	// The sockets are named relative to the data directory, which is the
	// process's own: the kernel takes no more than 107 bytes for their path,
	// and a test's directory is longer. The directory's mode keeps others out.
	etcdClientSocket = "etcd.sock"
	etcdPeerSocket   = "etcd-peer.sock"

	// etcdQuota is the size at which etcd refuses to grow; its own default of
	// 2 GiB is too small for a test of scale.
	etcdQuota = 8 << 30
	// etcdDefragMegabytes is what must be gained for the database to be
	// rewritten at start.
	etcdDefragMegabytes = 64
)

// etcd is a running etcd of one member.
type etcd struct {
	*embed.Etcd
	level zap.AtomicLevel
}

// startEtcd starts etcd with its data in dir and waits until it serves.
func startEtcd(ctx context.Context, dir string, noFsync bool) (*etcd, error) {
	config := embed.NewConfig()
	config.Name = clusterName
	config.Dir = dir
	config.ListenClientUrls = []url.URL{{Scheme: "unix", Host: etcdClientSocket}}
	config.ListenPeerUrls = []url.URL{{Scheme: "unix", Host: etcdPeerSocket}}
	// Nobody connects to these: etcd wants host and port, and a single member
	// neither calls a peer nor tells clients where else to go.
	advertise := url.URL{Scheme: "http", Host: "localhost:1"}
	config.AdvertiseClientUrls = []url.URL{advertise}
	config.AdvertisePeerUrls = []url.URL{advertise}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.UnsafeNoFsync = noFsync
	config.QuotaBackendBytes = etcdQuota
	config.BootstrapDefragThresholdMegabytes = etcdDefragMegabytes
	config.EnableGRPCGateway = false
	// Unset it means that every request is worth a warning.
	config.WarningUnaryRequestDuration = time.Second
	config.WarningApplyDuration = time.Second
	level := zap.NewAtomicLevelAt(zap.WarnLevel)
	config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(etcdLogger(level))

	server, err := embed.StartEtcd(config)
	if err != nil {
		return nil, fmt.Errorf("starting etcd: %w", err)
	}
	e := &etcd{server, level}
	select {
	case <-e.Server.ReadyNotify():
		return e, nil
	case err := <-e.Err():
		e.stop()
		return nil, fmt.Errorf("starting etcd: %w", err)
	case <-ctx.Done():
		e.stop()
		return nil, ctx.Err()
	}
}

// stop ends etcd. It closes the sockets under its own servers and reports each
// of them as an error, which nobody needs to read.
func (e *etcd) stop() {
	e.level.SetLevel(zap.FatalLevel)
	e.Close()
}

func etcdLogger(level zap.AtomicLevel) *zap.Logger {
	encoder := zap.NewProductionEncoderConfig()
	encoder.EncodeTime = zapcore.ISO8601TimeEncoder
	return zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(encoder), zapcore.Lock(os.Stderr), level)).Named("etcd")
}
