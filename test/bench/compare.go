package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
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
	// definitions are the kinds that it needs beside ours, or in place of ours.
	definitions []definition
	// heals says that it looks at drift before the interval has passed.
	heals bool
}

// fluxNamespace is where its installation puts its controllers.
const fluxNamespace = "flux-system"

func rivals() []rival {
	flux, argo := fluxWorkload(), argoWorkload()
	argo.name, flux.name = "argocd", "flux"
	argo.noun, flux.noun = "apps with Argo CD", "apps with Flux"
	// The same apps as Flux's: what an app is, is not what is compared.
	argo.manifests, argo.live = flux.manifests, flux.live
	return []rival{
		{
			name: "Flux", workload: flux, programs: []string{"source-controller", "kustomize-controller"},
			args: fluxArgs, prepare: func(context.Context, *contest) error { return nil }, tell: askFlux, definitions: fluxDefinitions(),
		},
		{
			name: "Argo CD", workload: argo, programs: []string{"redis-server", "argocd-repo-server", "argocd-application-controller"},
			args: argoArgs, prepare: prepareArgo, tell: askArgo, definitions: argoDefinitions(), heals: true,
		},
	}
}

// compare measures us and the rivals whose programs are in PATH, and names what
// is missing of the others.
func (b *bench) compare(sizes []int) func(context.Context) ([]row, error) {
	return func(ctx context.Context) ([]row, error) {
		var rows []row
		for _, n := range sizes {
			more, err := b.fleet(ctx, fluxWorkload(), n, func(f *fleet) []step {
				return []step{f.prepare, f.install, f.one, f.none, f.heal, f.all}
			})
			rows = append(rows, more...)
			if err != nil {
				return rows, fmt.Errorf("%d apps: %w", n, err)
			}
		}
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

// against runs a rival on a cluster of its own, without Fairway. A program of
// it that ends is the end of the run.
func (b *bench) against(ctx context.Context, r rival, n int) (rows []row, err error) {
	ctx, end := context.WithCancelCause(ctx)
	defer func() {
		if cause := context.Cause(ctx); err != nil && cause != nil {
			err = cause
		}
		end(nil)
	}()
	own := *b
	dir := filepath.Join(b.dir, fmt.Sprintf("%s-%d", r.workload.name, n))
	own.data, own.work = filepath.Join(dir, "cluster"), filepath.Join(dir, "work", "app")
	f := &fleet{bench: &own, workload: r.workload, n: n}
	run := &contest{fleet: f, dir: dir, ports: map[string]string{}, end: end}
	defer os.RemoveAll(dir)
	stop, err := run.startCluster(ctx, r.definitions)
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
		pid, stop, err := run.start(ctx, program, r.args(run, program))
		if err != nil {
			return nil, err
		}
		defer stop()
		pids = append(pids, pid)
	}
	f.usage = func() usage {
		var total usage
		for _, pid := range pids {
			u := treeUsage(pid)
			total.cpu, total.pids = total.cpu+u.cpu, append(total.pids, u.pids...)
		}
		return total
	}
	f.pushed = func(ctx context.Context) error { return r.tell(ctx, f) }
	steps := []step{f.prepare, f.install, f.one, f.none}
	if r.heals {
		steps = append(steps, f.heal)
	}
	return f.run(ctx, append(steps, f.all))
}

func fluxArgs(r *contest, program string) []string {
	args := []string{"--enable-leader-election=false", "--events-addr=", "--log-level=error",
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
		return []string{"--address", "127.0.0.1", "--port", repo, "--metrics-address", "127.0.0.1", "--metrics-port", r.port("repo metrics"),
			"--redis", "127.0.0.1:" + redis, "--disable-tls", "--loglevel", "error"}
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
		if name == "argocd-cm" {
			c.Data = map[string]string{"resource.customizations.health.networking.k8s.io_Ingress": ingressHealth}
		}
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
	return r.createDefaultProject(ctx)
}

// ingressHealth is what Argo CD's FAQ advises where Ingresses get no load
// balancer, as here: to the others these are ready.
const ingressHealth = "return {status = 'Healthy'}"

// createDefaultProject makes the project that allows everything.
func (r *contest) createDefaultProject(ctx context.Context) error {
	cfg, err := clientcmd.BuildConfigFromFlags("", r.kubeconfig)
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return err
	}
	project := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "argoproj.io/v1alpha1", "kind": "AppProject", "metadata": map[string]any{"name": "default"},
		"spec": map[string]any{
			"sourceRepos": []any{"*"}, "clusterResourceWhitelist": []any{map[string]any{"group": "*", "kind": "*"}},
			"destinations": []any{map[string]any{"server": "*", "namespace": "*"}},
		},
	}}
	_, err = client.Resource(projects).Namespace(r.namespace).Create(ctx, project, metav1.CreateOptions{})
	return err
}

var projects = schema.GroupVersionResource{Group: "argoproj.io", Version: "v1alpha1", Resource: "appprojects"}

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
