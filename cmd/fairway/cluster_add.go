package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/fleet"
)

// kubeconfigFlags say where the contexts of other clusters are.
type kubeconfigFlags struct{ path string }

func (f *kubeconfigFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.path, "from", "", "kubeconfig with the context (default: KUBECONFIG, else ~/.kube/config)")
}

func (f *kubeconfigFlags) rules() *clientcmd.ClientConfigLoadingRules {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.path
	return rules
}

// complete are the contexts, for a shell.
func (f *kubeconfigFlags) complete() ([]string, cobra.ShellCompDirective) {
	config, err := f.rules().Load()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for name := range config.Contexts {
		names = append(names, name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// targetCluster is a cluster as its kubeconfig's user.
type targetCluster struct {
	context string
	config  *rest.Config
	client  kubernetes.Interface
}

// load reaches the cluster of a context, whose user may prove himself in any
// way: this is his own machine.
func (f *kubeconfigFlags) load(name string) (*targetCluster, error) {
	config, err := f.rules().Load()
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	if config.Contexts[name] == nil {
		hint := "it has none; is it the right file? --from names another"
		if known := slices.Sorted(maps.Keys(config.Contexts)); len(known) > 0 {
			hint = "it has: " + shortList(known)
		}
		return nil, withHint(fmt.Errorf("the kubeconfig has no context %q", name), hint)
	}
	cfg, err := clientcmd.NewNonInteractiveClientConfig(*config, name, &clientcmd.ConfigOverrides{}, f.rules()).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("reading context %s of the kubeconfig: %w", name, err)
	}
	if err := rest.LoadTLSFiles(cfg); err != nil {
		return nil, fmt.Errorf("reading context %s of the kubeconfig: %w", name, err)
	}
	c, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("reaching the cluster of context %s: %w", name, err)
	}
	return &targetCluster{context: name, config: cfg, client: c}, nil
}

// clusterAdd are the options of "cluster add", by argocd's names.
type clusterAdd struct {
	from             kubeconfigFlags
	name, project    string
	labels, notes    []string
	namespaces       []string
	clusterResources bool
	account, system  string
	endpoint         string
	inCluster        bool
	upsert, yes      bool
	rotate           bool
}

func newClusterAddCommand(o *appOptions) *cobra.Command {
	a := &clusterAdd{}
	cmd := &cobra.Command{
		Use:   "add CONTEXT",
		Short: "Let Fairway deliver to the cluster of a kubeconfig's context",
		Long: `Let Fairway deliver to the cluster of a kubeconfig's context.

In that cluster it makes the ServiceAccount ` + managerName + ` in ` + defaultSystemNamespace + ` with a token that
does not expire, and permits it everything (with --namespace: everything in
these namespaces, by a Role in each). Here it makes the Secret that describes
the cluster. The kubeconfig itself is not kept. Done again, it renews what it
made; --rotate makes a new token, and the old one is worth nothing any more.

With --in-cluster there is no context: the cluster that Fairway runs in gets a
Secret, which gives it a name, labels and a project.`,
		Example: `  fairway cluster add prod-eu-admin --name prod-eu --label region=eu
  fairway cluster add prod-us-admin --name prod-us --from ./kubeconfig
  fairway cluster add shared --namespace shop --namespace pay
  fairway cluster add prod-eu-admin --name prod-eu --rotate
  fairway cluster add --in-cluster --name staging --label stage=test`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case a.inCluster && len(args) > 0:
				return usage("--in-cluster takes no context")
			case !a.inCluster && len(args) != 1:
				return usage("want the name of a context of the kubeconfig")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runClusterAdd(cmd.Context(), o, a, args, cmd.OutOrStdout())
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return a.from.complete()
		},
	}
	flags := cmd.Flags()
	a.from.add(cmd)
	flags.StringVar(&a.name, "name", "", "name of the cluster (default: that of the context)")
	flags.StringVar(&a.project, "project", "", "project that the cluster is for")
	flags.StringArrayVar(&a.labels, "label", nil, "label NAME=VALUE of the Secret, for ApplicationSets; can be repeated")
	flags.StringArrayVar(&a.notes, "annotation", nil, "annotation NAME=VALUE of the Secret; can be repeated")
	flags.StringArrayVar(&a.namespaces, "namespace", nil, "deliver to this namespace only; can be repeated")
	flags.BoolVar(&a.clusterResources, "cluster-resources", false, "with --namespace: deliver objects of the whole cluster, too")
	flags.StringVar(&a.account, "service-account", "", "use this account of the system namespace, with the permissions that it has")
	flags.StringVar(&a.system, "system-namespace", defaultSystemNamespace, "namespace of the account in the cluster")
	flags.StringVar(&a.endpoint, "cluster-endpoint", "", "address of the API server, where the context's is not the one to use")
	flags.BoolVar(&a.inCluster, "in-cluster", false, "describe the cluster that Fairway runs in")
	flags.BoolVar(&a.upsert, "upsert", false, "rename the cluster, or replace another one that has the name")
	flags.BoolVar(&a.rotate, "rotate", false, "make a new token")
	flags.BoolVarP(&a.yes, "yes", "y", false, "accepted and without effect: nothing is asked")
	return cmd
}

func runClusterAdd(ctx context.Context, o *appOptions, a *clusterAdd, args []string, out io.Writer) error {
	labels, err := pairs("--label", a.labels, nil)
	if err != nil {
		return err
	}
	notes, err := pairs("--annotation", a.notes, nil)
	if err != nil {
		return err
	}
	c, err := o.client()
	if err != nil {
		return err
	}
	data := map[string][]byte{"server": []byte(argo.InClusterServer), "name": []byte(cmp.Or(a.name, argo.InClusterName)), "config": []byte("{}")}
	var target *targetCluster
	if !a.inCluster {
		if target, err = a.from.load(args[0]); err != nil {
			return err
		}
		data["server"], data["name"] = []byte(fleet.NormalServer(cmp.Or(a.endpoint, target.config.Host))), []byte(cmp.Or(a.name, args[0]))
	}
	// Nothing is made in the cluster before it is clear that its Secret can be.
	taken, err := o.takenBy(ctx, c, data, a.upsert)
	if err != nil {
		return err
	}
	if target != nil {
		if err := a.prepare(ctx, target, data, out); err != nil {
			return err
		}
	}
	if a.project != "" {
		data["project"] = []byte(a.project)
	}
	if !a.inCluster {
		// What the server would refuse is not written.
		if _, err := fleet.FromSecret(data); err != nil {
			return fmt.Errorf("cluster %s: %w", data["name"], err)
		}
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: o.appNamespace(), Name: clusterSecretName(string(data["server"])), Labels: labels, Annotations: notes},
		Data:       data,
	}
	if secret.Labels == nil {
		secret.Labels = map[string]string{}
	}
	secret.Labels[labelSecretType] = secretCluster
	for i := range taken {
		if err := client.IgnoreNotFound(c.Delete(ctx, &taken[i])); err != nil {
			return fmt.Errorf("deleting Secret %s: %w", taken[i].Name, err)
		}
	}
	if err := o.writeCluster(ctx, c, secret); err != nil {
		return err
	}
	fmt.Fprintf(out, "cluster '%s' (%s) added\n", data["name"], data["server"])
	return nil
}

// clusterSecretName is that of Argo CD for the Secret of a server.
func clusterSecretName(server string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(server))
	host := "cluster"
	if u, err := url.Parse(server); err == nil && u.Hostname() != "" {
		host = strings.ToLower(u.Hostname())
	}
	host = strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '.' || r == '-' {
			return r
		}
		return '-'
	}, host)
	return "cluster-" + host + "-" + strconv.FormatUint(uint64(h.Sum32()), 10)
}

// takenBy are the Secrets of other clusters that have the name, where upsert
// says that they are to be replaced. Without it they are an error, and so is
// that the cluster itself has another name, by which Applications know it.
func (o *appOptions) takenBy(ctx context.Context, c client.Client, data map[string][]byte, upsert bool) ([]corev1.Secret, error) {
	name, server := string(data["name"]), string(data["server"])
	if name == argo.InClusterName && server != argo.InClusterServer {
		return nil, withHint(fmt.Errorf("the name %s is that of the cluster that Fairway runs in", name), "give this one another --name")
	}
	named, err := o.clusterSecrets(ctx, c, name)
	if err != nil {
		return nil, err
	}
	same, err := o.clusterSecrets(ctx, c, server)
	if err != nil {
		return nil, err
	}
	for _, s := range same {
		if before := string(s.Data["name"]); before != name && !upsert {
			return nil, withHint(fmt.Errorf("the cluster at %s is known as %s", server, before),
				"keep its name by --name "+before+", or rename it by --upsert; Applications that name it "+before+" are held then")
		}
	}
	taken := slices.DeleteFunc(named, func(s corev1.Secret) bool { return fleet.NormalServer(string(s.Data["server"])) == server })
	if len(taken) > 0 && !upsert {
		return nil, withHint(fmt.Errorf("there is another cluster %s, at %s", name, taken[0].Data["server"]),
			"give this one another --name, or replace the other by --upsert")
	}
	return taken, nil
}

// writeCluster makes the Secret, or replaces the one of the same server.
func (o *appOptions) writeCluster(ctx context.Context, c client.Client, secret *corev1.Secret) error {
	server := string(secret.Data["server"])
	before, err := o.clusterSecrets(ctx, c, server)
	if err != nil {
		return err
	}
	if len(before) > 0 {
		// Its name may be one that somebody else has given it.
		known := &before[0]
		known.Data = secret.Data
		for name, value := range secret.Labels {
			setIn(&known.Labels, name, value)
		}
		for name, value := range secret.Annotations {
			setIn(&known.Annotations, name, value)
		}
		if err := c.Update(ctx, known); err != nil {
			return fmt.Errorf("replacing Secret %s: %w", known.Name, err)
		}
		return nil
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: secret.Namespace}}
	err = c.Create(ctx, secret)
	if apierrors.IsNotFound(err) { // the engine has not made it yet
		if err = c.Create(ctx, namespace); err == nil || apierrors.IsAlreadyExists(err) {
			err = c.Create(ctx, secret)
		}
	}
	if err != nil {
		return fmt.Errorf("making Secret %s: %w", secret.Name, err)
	}
	return nil
}

func setIn(m *map[string]string, name, value string) {
	if *m == nil {
		*m = map[string]string{}
	}
	(*m)[name] = value
}

// prepare makes the account in the cluster, and adds to the data of the Secret
// what it is reached with.
func (a *clusterAdd) prepare(ctx context.Context, target *targetCluster, data map[string][]byte, out io.Writer) error {
	account, err := target.own(ctx, a, out)
	if err != nil {
		return err
	}
	token, err := target.token(ctx, a.system, account, a.rotate)
	if err != nil {
		return err
	}
	if data["config"], err = json.Marshal(target.describe(token)); err != nil {
		return fmt.Errorf("describing the cluster: %w", err)
	}
	if len(a.namespaces) > 0 {
		data["namespaces"] = []byte(strings.Join(a.namespaces, ","))
		data["clusterResources"] = []byte(strconv.FormatBool(a.clusterResources))
	}
	return nil
}

// describe is "config" of the Secret.
func (t *targetCluster) describe(token string) map[string]any {
	tls := map[string]any{"insecure": t.config.Insecure}
	if t.config.ServerName != "" {
		tls["serverName"] = t.config.ServerName
	}
	if len(t.config.CAData) > 0 {
		tls["caData"] = t.config.CAData
	}
	if t.config.Insecure {
		fmt.Fprintf(os.Stderr, "warning: context %s does not verify the certificate of its cluster, and so Fairway will not\n", t.context)
	}
	return map[string]any{"bearerToken": token, "tlsClientConfig": tls}
}
