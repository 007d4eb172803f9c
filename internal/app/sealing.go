package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/fairway-cd/fairway/internal/identity"
)

// The Service that kubeseal asks for by default, and the socket, below the
// embedded cluster's directory, at which we serve it. See --service-socket of
// fairway-cluster.
const (
	sealingNamespace = metav1.NamespaceSystem
	sealingService   = "sealed-secrets-controller"
	sealingSocket    = "sealed-secrets.sock"
)

// serveSealing has kubeseal find us by itself in the embedded cluster: it
// serves the routes at the socket, and keeps the Service there.
func (s *Server) serveSealing(ctx context.Context, group *errgroup.Group, client kubernetes.Interface, routes map[string]http.Handler) error {
	l, err := listenUnix(s.inst.path("cluster"), sealingSocket)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	for pattern, h := range routes {
		mux.Handle(pattern, h)
	}
	serveListeners(ctx, group, mux, []listener{{Listener: l}})
	group.Go(func() error { return keepSealingService(ctx, client) })
	return nil
}

// listenUnix listens at a socket in a directory, which may be too long for the
// path of a socket (107 bytes): that begins at the open directory (proc(5),
// /proc/PID/fd).
func listenUnix(dir, name string) (net.Listener, error) {
	path := filepath.Join(dir, name)
	// One that a killed server has left.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listening at %s: %w", path, err)
	}
	open, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("listening at %s: %w", path, err)
	}
	defer open.Close()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: "/proc/self/fd/" + strconv.Itoa(int(open.Fd())) + "/" + name})
	if err != nil {
		return nil, fmt.Errorf("listening at %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false) // by then another directory may have that number
	return l, nil
}

// keepSealingService makes the Service where there is none, with the right to
// ask it, until ctx ends. Whoever installs sealed-secrets' own controller makes
// it theirs, or removes ours before; when theirs goes, ours comes back.
func keepSealingService(ctx context.Context, client kubernetes.Interface) error {
	missing := make(chan struct{}, 1)
	missing <- struct{}{}
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.NewListWatchFromClient(client.CoreV1().RESTClient(), "services", sealingNamespace,
			fields.OneTermEqualSelector(metav1.ObjectNameField, sealingService)),
		ObjectType: &corev1.Service{},
		Handler: cache.ResourceEventHandlerFuncs{DeleteFunc: func(obj any) {
			if stale, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = stale.Obj
			}
			if service, ok := obj.(*corev1.Service); ok && len(service.Spec.Selector) == 0 {
				return // ours, and somebody wants it gone
			}
			select {
			case missing <- struct{}{}:
			default:
			}
		}},
	})
	var watching errgroup.Group
	watching.Go(func() error {
		informer.RunWithContext(ctx)
		return nil
	})
	for {
		select {
		case <-ctx.Done():
			return watching.Wait()
		case <-missing:
			makeSealingService(ctx, client)
		}
	}
}

// makeSealingService tries until it has come true, or ctx ends.
func makeSealingService(ctx context.Context, client kubernetes.Interface) {
	again := wait.Backoff{Duration: time.Second, Factor: 2, Jitter: 0.1, Cap: time.Minute, Steps: 10}
	_ = again.DelayFunc().Until(ctx, true, false, func(ctx context.Context) (bool, error) {
		err := errors.Join(
			identity.EnsureSealers(ctx, client, sealingNamespace, sealingService),
			createSealingService(ctx, client))
		if err != nil && ctx.Err() == nil {
			slog.Error("making the Service by which kubeseal finds the certificate", "error", err)
		}
		return err == nil, nil
	})
}

// createSealingService makes the Service without a selector: a Service with
// one is another controller's, and its pods serve it. It has no address, for
// only the API server knows the way to us.
func createSealingService(ctx context.Context, client kubernetes.Interface) error {
	// Where nothing is said, one without a selector is dual-stack, and could not
	// be given a selector in a cluster that is not.
	family := corev1.IPFamilyPolicySingleStack
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Name: sealingService, Namespace: sealingNamespace,
			Annotations: map[string]string{"kubernetes.io/description": "Fairway, for kubeseal: the API server's proxy of this Service leads to it."},
		},
		Spec: corev1.ServiceSpec{
			ClusterIP: corev1.ClusterIPNone, IPFamilyPolicy: &family,
			Ports: []corev1.ServicePort{{Name: "http", Port: 8080}}, // as in sealed-secrets' own
		},
	}
	_, err := client.CoreV1().Services(sealingNamespace).Create(ctx, service, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("making Service %s/%s: %w", sealingNamespace, sealingService, err)
	}
	return nil
}
