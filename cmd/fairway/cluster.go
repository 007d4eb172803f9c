package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/controller"
	"github.com/fairway-cd/fairway/internal/fleet"
)

// The label of Argo CD's Secrets that describe a cluster, and its value.
const (
	labelSecretType = "argocd.argoproj.io/secret-type"
	secretCluster   = "cluster"
)

func newClusterCommand(o *appOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "cluster",
		Aliases: []string{"clusters"},
		Short:   "Other clusters to deliver to: add, list, remove",
		Long: `Other clusters to deliver to: add, list, remove.

A cluster is a Secret in the namespace of Applications, of the form that Argo CD
documents: those that Argo CD has are known at once. An Application names its
cluster in spec.destination.name or spec.destination.server.`,
	}
	cmd.PersistentFlags().StringVarP(&o.namespace, "app-namespace", "N", "", "namespace of the Secrets (default "+defaultAppNamespace+")")
	cmd.AddCommand(newClusterAddCommand(o), newClusterListCommand(o), newClusterRemoveCommand(o))
	return cmd
}

func newClusterListCommand(o *appOptions) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List clusters: whether they answer, and how much is delivered there",
		Long: `List clusters: whether they answer, and how much is delivered there.

Connected, Away (with since when and why), Connecting while that is being found
out, or Invalid where the Secret cannot be used. Kubeconfigs that Kustomizations
and HelmReleases name are listed too, as NAMESPACE/SECRET.`,
		Example: "  fairway cluster list\n  fairway cluster list -o json\n  fairway cluster list -o 'jsonpath={.items[?(@.state==\"Away\")].name}'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runClusterList(cmd.Context(), o, output, cmd.OutOrStdout())
		},
	}
	addOutputFlag(cmd, &output)
	return cmd
}

func runClusterList(ctx context.Context, o *appOptions, output string, out io.Writer) error {
	list, err := o.clusters(ctx)
	if err != nil {
		return err
	}
	return printData(out, output, list, func(t *tabwriter.Writer) {
		fmt.Fprintln(t, "NAME\tSERVER\tVERSION\tSTATE\tAPPLICATIONS\tMESSAGE")
		for _, c := range list.Items {
			state := c.State
			if c.State == string(fleet.Away) && c.Since != nil {
				state += " since " + c.Since.Local().Format(time.DateTime)
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%s\n", c.Name, c.Server, cmp.Or(c.Version, "-"), state, c.Deliveries, c.Message)
		}
	})
}

// clusters asks the server.
func (o *appOptions) clusters(ctx context.Context) (*controller.Clusters, error) {
	api, err := o.api(ctx)
	if err != nil {
		return nil, err
	}
	list := &controller.Clusters{}
	if err := api.do(ctx, http.MethodGet, "/api/v1/clusters", nil, list); err != nil {
		return nil, fmt.Errorf("listing clusters: %w", err)
	}
	return list, nil
}

func newClusterRemoveCommand(o *appOptions) *cobra.Command {
	var force, yes bool
	var from kubeconfigFlags
	var kubeContext, system string
	cmd := &cobra.Command{
		Use:     "remove NAME|SERVER",
		Aliases: []string{"rm", "delete"},
		Short:   "Forget a cluster",
		Long: `Forget a cluster: its Secret is deleted. What is delivered there stays.

Applications that are still for the cluster keep it from being removed, because
what they have there could not be deleted any more; --force removes it all the
same. With --context the account that 'cluster add' has made there is deleted
too.`,
		Example: "  fairway cluster remove prod-eu\n  fairway cluster remove prod-eu --context prod-eu-admin",
		Args:    exactlyOne("the name or the server of a cluster"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runClusterRemove(cmd.Context(), o, args[0], force, from, kubeContext, system, cmd.OutOrStdout())
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return o.completeClusters(cmd.Context(), args)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "remove it even if Applications are for it")
	cmd.Flags().StringVar(&kubeContext, "context", "", "context of the cluster, to delete there what 'cluster add' has made")
	cmd.Flags().StringVar(&system, "system-namespace", defaultSystemNamespace, "namespace of the account in the cluster")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "accepted and without effect: nothing is asked")
	from.add(cmd)
	_ = cmd.RegisterFlagCompletionFunc("context", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return from.complete()
	})
	return cmd
}

// exactlyOne is cobra.ExactArgs(1) with the exit code of a usage error.
func exactlyOne(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usage("want %s", what)
		}
		return nil
	}
}

func runClusterRemove(ctx context.Context, o *appOptions, name string, force bool, from kubeconfigFlags, kubeContext, system string, out io.Writer) error {
	c, err := o.client()
	if err != nil {
		return err
	}
	found, err := o.clusterSecrets(ctx, c, name)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return withHint(fmt.Errorf("there is no cluster %s", name), "'fairway cluster list' lists them")
	}
	if users, err := clusterUsers(ctx, c, found); err != nil {
		return err
	} else if len(users) > 0 && !force {
		return withHint(fmt.Errorf("%d Applications are for %s: %s", len(users), name, shortList(users)),
			"delete them first, so that what they have there is deleted; or --force, and they are held until the cluster is known again")
	}
	if kubeContext != "" {
		target, err := from.load(kubeContext)
		if err != nil {
			return err
		}
		if err := target.disown(ctx, system, out); err != nil {
			return err
		}
	}
	for i := range found {
		if err := client.IgnoreNotFound(c.Delete(ctx, &found[i])); err != nil {
			return fmt.Errorf("deleting Secret %s: %w", found[i].Name, err)
		}
	}
	fmt.Fprintf(out, "cluster '%s' removed\n", name)
	return nil
}

// shortList names the first of many.
func shortList(names []string) string {
	const most = 5
	if n := len(names) - most; n > 0 {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", n)
	}
	return strings.Join(names, ", ")
}

// clusterSecrets are the Secrets of the cluster with that name or server.
func (o *appOptions) clusterSecrets(ctx context.Context, c client.Client, name string) ([]corev1.Secret, error) {
	var list corev1.SecretList
	if err := c.List(ctx, &list, client.InNamespace(o.appNamespace()), client.MatchingLabels{labelSecretType: secretCluster}); err != nil {
		return nil, fmt.Errorf("listing the Secrets of clusters: %w", err)
	}
	return slices.DeleteFunc(list.Items, func(s corev1.Secret) bool {
		return string(s.Data["name"]) != name && fleet.NormalServer(string(s.Data["server"])) != fleet.NormalServer(name)
	}), nil
}

// clusterUsers are the Applications that are for one of the clusters.
func clusterUsers(ctx context.Context, c client.Client, clusters []corev1.Secret) ([]string, error) {
	var apps argo.ApplicationList
	if err := c.List(ctx, &apps); err != nil && !missing(err) {
		return nil, fmt.Errorf("listing Applications: %w", err)
	}
	var users []string
	for i := range apps.Items {
		dest := apps.Items[i].Spec.Destination
		if slices.ContainsFunc(clusters, func(s corev1.Secret) bool {
			return dest.Name != "" && dest.Name == string(s.Data["name"]) ||
				dest.Server != "" && fleet.NormalServer(dest.Server) == fleet.NormalServer(string(s.Data["server"]))
		}) {
			users = append(users, apps.Items[i].Namespace+"/"+apps.Items[i].Name)
		}
	}
	return users, nil
}

// completeClusters are the names of clusters, for a shell.
func (o *appOptions) completeClusters(ctx context.Context, args []string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list, err := o.clusters(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, c := range list.Items {
		if c.Secret != "" && !strings.Contains(c.Secret, "/") {
			names = append(names, c.Name+"\t"+c.Server)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
