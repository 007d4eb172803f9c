package main

import (
	"context"
	"fmt"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/fairway-cd/fairway/api"
)

// rival is another project's controllers, measured with the same apps, on the
// same kind of cluster, by the same clock.
type rival struct {
	name     string
	workload workload
	// programs are looked for in PATH, and started in this order.
	programs []string
	// args are a program's; prepare makes what they need in the cluster, and
	// tell says that there was a push, as a webhook would.
	args    func(r *contest, program string) []string
	prepare func(ctx context.Context, r *contest) error
	tell    func(ctx context.Context, f *fleet) error
}

// contest is where a rival runs.
type contest struct {
	*fleet
	kubeconfig string
	ports      map[string]string
	dir        string
}

func rivals() []rival {
	flux, argo := fluxWorkload(), argoWorkload()
	argo.name, flux.name = "argocd", "flux"
	// The same apps as Flux's: what an app is, is not what is compared.
	argo.manifests, argo.live, argo.kinds, argo.noun = flux.manifests, flux.live, flux.kinds, "apps"
	return []rival{
		{
			name: "Flux", workload: flux, programs: []string{"source-controller", "kustomize-controller"},
			args: fluxArgs, prepare: func(context.Context, *contest) error { return nil }, tell: askFlux,
		},
		{
			name: "Argo CD", workload: argo, programs: []string{"redis-server", "argocd-repo-server", "argocd-application-controller"},
			args: argoArgs, prepare: prepareArgo, tell: askArgo,
		},
	}
}

// compare measures the rivals whose programs are in PATH, and names what is
// missing of the others.
func (b *bench) compare(sizes []int) func(context.Context) ([]row, error) {
	return func(ctx context.Context) ([]row, error) {
		var rows []row
		for _, r := range rivals() {
			if missing := missingPrograms(r.programs); len(missing) > 0 {
				fmt.Fprintf(os.Stderr, "  %s is not measured: %s not in PATH\n", r.name, strings.Join(missing, ", "))
				continue
			}
			for _, n := range sizes {
				more, err := b.against(ctx, r, n)
				rows = append(rows, more...)
				if err != nil {
					return rows, fmt.Errorf("%s, %d apps: %w", r.name, n, err)
				}
			}
		}
		return rows, nil
	}
}

func missingPrograms(names []string) []string {
	var missing []string
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, name)
		}
	}
	return missing
}

// against runs a rival on a cluster of its own, without Fairway.
func (b *bench) against(ctx context.Context, r rival, n int) ([]row, error) {
	own := *b
	dir := filepath.Join(b.dir, fmt.Sprintf("%s-%d", r.workload.name, n))
	own.data, own.work = filepath.Join(dir, "cluster"), filepath.Join(dir, "work", "app")
	run := &contest{fleet: &fleet{bench: &own, workload: r.workload, n: n}, dir: dir, ports: map[string]string{}}
	defer os.RemoveAll(dir)
	stop, err := run.startCluster(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	stopGit, err := run.serveGit(ctx)
	if err != nil {
		return nil, err
	}
	defer stopGit()
	if err := r.prepare(ctx, run); err != nil {
		return nil, err
	}
	var pids []int
	for _, program := range r.programs {
		pid, end, err := run.start(ctx, program, r.args(run, program))
		if err != nil {
			return nil, err
		}
		defer end()
		pids = append(pids, pid)
	}
	f := run.fleet
	f.kubeconfig = run.kubeconfig
	f.usage = func() usage {
		var total usage
		for _, pid := range pids {
			u := treeUsage(pid)
			total.cpu, total.pids = total.cpu+u.cpu, append(total.pids, u.pids...)
		}
		return total
	}
	f.pushed = func(ctx context.Context) error { return r.tell(ctx, f) }
	for _, step := range []func(context.Context) error{f.prepare, f.install, f.one, f.none, f.all} {
		if err := step(ctx); err != nil {
			return f.rows, err
		}
	}
	return f.rows, nil
}

// startCluster starts the embedded Kubernetes alone, with our definitions of
// the rivals' kinds, which have all of their fields.
func (r *contest) startCluster(ctx context.Context) (stop func(), err error) {
	program := os.Getenv("FAIRWAY_CLUSTER")
	if program == "" {
		program = filepath.Join(filepath.Dir(r.bin), "fairway-cluster")
	}
	ready := filepath.Join(r.dir, "ready")
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return nil, err
	}
	pid, stop, err := r.start(ctx, program, []string{"control-plane", "--data", r.data, "--address", "127.0.0.1", "--port", r.freePort(), "--ready-file", ready})
	if err != nil {
		return nil, err
	}
	r.cluster = pid
	err = r.eventually(ctx, "the cluster is ready", func() (bool, error) {
		_, err := os.Stat(ready)
		return err == nil, nil
	})
	if err == nil {
		r.kubeconfig = filepath.Join(r.data, "admin.kubeconfig")
		err = r.install(ctx)
	}
	if err != nil {
		stop()
	}
	return stop, err
}

func (r *contest) install(ctx context.Context) error {
	cfg, err := clientcmd.BuildConfigFromFlags("", r.kubeconfig)
	if err != nil {
		return err
	}
	cfg.QPS = -1
	if r.client, err = kubernetes.NewForConfig(cfg); err != nil {
		return err
	}
	_, err = api.Install(ctx, cfg)
	return err
}

// start starts a program, with its output in a file.
func (r *contest) start(ctx context.Context, program string, args []string) (pid int, stop func(), err error) {
	log, err := os.Create(filepath.Join(r.dir, filepath.Base(program)+".log"))
	if err != nil {
		return 0, nil, err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(r.env, "RUNTIME_NAMESPACE=flux-system", "ARGOCD_CONTROLLER_REPLICAS=1")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return 0, nil, err
	}
	return cmd.Process.Pid, func() {
		_ = cmd.Process.Signal(os.Interrupt)
		done := make(chan struct{})
		go func() {
			_ = cmd.Wait()
			close(done)
		}()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			<-done
		}
	}, nil
}

// serveGit serves an empty repository over HTTP, to which one may push.
func (r *contest) serveGit(ctx context.Context) (stop func(), err error) {
	root := filepath.Join(r.dir, "git")
	repo := filepath.Join(root, "fleet.git")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, err
	}
	for _, args := range [][]string{{"init", "-q", "--bare", "-b", "main", repo}, {"-C", repo, "config", "http.receivepack", "true"}} {
		if _, err := r.exec(ctx, "", "git", args...); err != nil {
			return nil, err
		}
	}
	path, err := r.exec(ctx, "", "git", "--exec-path")
	if err != nil {
		return nil, err
	}
	server := httptest.NewServer(&cgi.Handler{
		Path: filepath.Join(path, "git-http-backend"), Root: "/git",
		Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1"},
	})
	r.base, r.gitURL = server.URL, server.URL+"/git"
	return server.Close, nil
}

// port is one of the run, the same each time it is asked for by that name.
func (r *contest) port(name string) string {
	if r.ports[name] == "" {
		r.ports[name] = r.freePort()
	}
	return r.ports[name]
}

func fluxArgs(r *contest, program string) []string {
	args := []string{"--kubeconfig", r.kubeconfig, "--enable-leader-election=false", "--events-addr=", "--log-level=error",
		"--metrics-addr=127.0.0.1:" + r.port(program+" metrics"), "--health-addr=127.0.0.1:" + r.port(program+" health")}
	if program == "source-controller" {
		address := "127.0.0.1:" + r.port("storage")
		args = append(args, "--storage-path="+r.dir, "--storage-addr="+address, "--storage-adv-addr="+address)
	}
	return args
}

// stamp is an annotation that asks for a reconciliation.
func stamp(name string) []byte {
	return fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, name, time.Now().Format(time.RFC3339Nano))
}

// askFlux does what its notification controller does for a webhook.
func askFlux(ctx context.Context, f *fleet) error {
	_, err := f.dynamic.Resource(gitRepositories).Namespace(f.namespace).Patch(ctx, "fleet", types.MergePatchType,
		stamp("reconcile.fluxcd.io/requestedAt"), metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		return nil // it is not made yet
	}
	return err
}

func argoArgs(r *contest, program string) []string {
	redis, repo := r.port("redis"), r.port("repo")
	switch program {
	case "redis-server":
		return []string{"--port", redis, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", r.dir}
	case "argocd-repo-server":
		return []string{"--port", repo, "--metrics-port", r.port("repo metrics"), "--redis", "127.0.0.1:" + redis, "--disable-tls", "--loglevel", "error"}
	default:
		return []string{"--kubeconfig", r.kubeconfig, "--namespace", r.namespace, "--redis", "127.0.0.1:" + redis, "--repo-server", "127.0.0.1:" + repo,
			"--repo-server-plaintext", "--metrics-port", r.port("controller metrics"), "--loglevel", "error"}
	}
}

// prepareArgo makes what its installation has in the cluster.
func prepareArgo(ctx context.Context, r *contest) error {
	_, err := r.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: r.namespace}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	labels := map[string]string{"app.kubernetes.io/part-of": "argocd"}
	for _, name := range []string{"argocd-cm", "argocd-rbac-cm", "argocd-cmd-params-cm", "argocd-gpg-keys-cm", "argocd-tls-certs-cm", "argocd-ssh-known-hosts-cm"} {
		c := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
		if _, err := r.client.CoreV1().ConfigMaps(r.namespace).Create(ctx, c, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	for _, name := range []string{"argocd-secret", "argocd-redis"} {
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, StringData: map[string]string{"server.secretkey": "bench", "auth": ""}}
		if _, err := r.client.CoreV1().Secrets(r.namespace).Create(ctx, s, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// askArgo does what its server does for a webhook: it asks for each
// Application of the repository.
func askArgo(ctx context.Context, f *fleet) error {
	apps := f.dynamic.Resource(f.resource).Namespace(f.namespace)
	for i := range f.n {
		_, err := apps.Patch(ctx, appName(i), types.MergePatchType, []byte(`{"metadata":{"annotations":{"argocd.argoproj.io/refresh":"normal"}}}`), metav1.PatchOptions{})
		if apierrors.IsNotFound(err) {
			return nil // they are not made yet
		}
		if err != nil {
			return err
		}
	}
	return nil
}
