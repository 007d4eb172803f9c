package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/api/flux"
	"github.com/fairway-cd/fairway/internal/controller"
	"github.com/fairway-cd/fairway/internal/fleet"
)

func newAppListCommand(o *appOptions) *cobra.Command {
	var output, selector, project string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List Applications, Kustomizations and HelmReleases",
		Example: "  fairway app list\n  fairway app list -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runAppList(cmd.Context(), o, selector, project, output, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVarP(&selector, "selector", "l", "", "label selector")
	cmd.Flags().StringVarP(&project, "project", "p", "", "only Applications of the project")
	addOutputFlag(cmd, &output)
	return cmd
}

// appRow is a delivery of either dialect as a person wants to see it.
type appRow struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Sync      string `json:"sync"`
	Health    string `json:"health"`
	Revision  string `json:"revision"`
	Source    string `json:"source"`
	Path      string `json:"path"`
	Cluster   string `json:"cluster"`
	Pinned    string `json:"pinned,omitempty"`
	Message   string `json:"message,omitempty"`
	// commit is Revision in full.
	commit string
}

func runAppList(ctx context.Context, o *appOptions, selector, project, output string, out io.Writer) error {
	match, err := labels.Parse(selector)
	if err != nil {
		return usage("--selector: %v", err)
	}
	c, err := o.client()
	if err != nil {
		return err
	}
	options := []client.ListOption{client.InNamespace(o.namespace), client.MatchingLabelsSelector{Selector: match}}
	var apps argo.ApplicationList
	if err := c.List(ctx, &apps, options...); err != nil && !missing(err) {
		return fmt.Errorf("listing Applications: %w", err)
	}
	rows := []appRow{}
	for i := range apps.Items {
		if project == "" || apps.Items[i].Spec.Project == project {
			rows = append(rows, applicationRow(&apps.Items[i]))
		}
	}
	if project == "" {
		var kustoms kustomizev1.KustomizationList
		if err := c.List(ctx, &kustoms, options...); err != nil && !missing(err) {
			return fmt.Errorf("listing Kustomizations: %w", err)
		}
		for i := range kustoms.Items {
			rows = append(rows, kustomizationRow(&kustoms.Items[i]))
		}
		var releases helmv2.HelmReleaseList
		if err := c.List(ctx, &releases, options...); err != nil && !missing(err) {
			return fmt.Errorf("listing HelmReleases: %w", err)
		}
		for i := range releases.Items {
			rows = append(rows, helmReleaseRow(&releases.Items[i]))
		}
	}
	slices.SortFunc(rows, func(a, b appRow) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
	})
	return printData(out, output, rows, func(t *tabwriter.Writer) {
		fmt.Fprintln(t, "KIND\tNAMESPACE\tNAME\tSYNC\tHEALTH\tREVISION\tSOURCE\tPATH\tCLUSTER")
		for _, r := range rows {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Kind, r.Namespace, r.Name, r.Sync, r.Health, r.Revision, r.Source, r.Path, r.Cluster)
		}
	})
}

func applicationRow(app *argo.Application) appRow {
	r := appRow{
		Kind: argo.ApplicationKind, Namespace: app.Namespace, Name: app.Name,
		Sync: cmp.Or(string(app.Status.Sync.Status), "Unknown"), Health: cmp.Or(app.Status.Health.Status, "Unknown"),
		Revision: shortCommit(app.Status.Sync.Revision), commit: app.Status.Sync.Revision, Pinned: app.Annotations[controller.AnnotationPinnedRevision],
		Cluster: cmp.Or(app.Spec.Destination.Name, app.Spec.Destination.Server),
	}
	if fleet.NormalServer(r.Cluster) == argo.InClusterServer {
		r.Cluster = argo.InClusterName
	}
	sources := app.Spec.Sources
	if len(sources) == 0 && app.Spec.Source != nil {
		sources = []argo.ApplicationSource{*app.Spec.Source}
	}
	if len(sources) > 0 {
		r.Source, r.Path = withoutPassword(sources[0].RepoURL), sources[0].Path+sources[0].Chart
	}
	if len(app.Status.Sync.Revisions) > 0 {
		r.Revision, r.commit = shortCommit(app.Status.Sync.Revisions[0]), app.Status.Sync.Revisions[0]
	}
	for _, c := range app.Status.Conditions {
		if strings.HasSuffix(c.Type, "Error") {
			r.Message = strings.TrimPrefix(r.Message+"; "+c.Type+": "+c.Message, "; ")
		}
	}
	return r
}

// withoutPassword is an address as it may be shown.
func withoutPassword(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.User == nil {
		return address
	}
	return u.Redacted()
}

func kustomizationRow(k *kustomizev1.Kustomization) appRow {
	_, commit, _ := strings.Cut(k.Status.LastAppliedRevision, ":")
	r := appRow{
		Kind: kustomizev1.KustomizationKind, Namespace: k.Namespace, Name: k.Name,
		Revision: shortCommit(commit), commit: commit, Source: k.Spec.SourceRef.Kind + "/" + k.Spec.SourceRef.Name, Path: k.Spec.Path,
		Pinned: k.Annotations[controller.AnnotationPinnedRevision], Cluster: argo.InClusterName,
	}
	if c := k.Spec.KubeConfig; c != nil && c.SecretRef != nil {
		r.Cluster = k.Namespace + "/" + c.SecretRef.Name
	}
	f, _ := fluxOf(k)
	r.state(f)
	return r
}

func shortCommit(commit string) string {
	commit = strings.TrimPrefix(commit, "sha256:") // of a chart
	if len(commit) > 7 && !strings.Contains(commit, ".") {
		return commit[:7]
	}
	return commit
}

func newAppGetCommand(o *appOptions) *cobra.Command {
	var output string
	var refresh, hard bool
	cmd := &cobra.Command{
		Use:     "get NAME",
		Short:   "Show an application: its state, its objects, and what is wrong",
		Example: "  fairway app get web-app\n  fairway app get web-app --refresh -o yaml",
		Args:    oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			ask := ""
			switch {
			case hard:
				ask = "hard"
			case refresh:
				ask = "normal"
			}
			return runAppGet(cmd.Context(), o, args[0], ask, output, cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&refresh, "refresh", false, "look at the source and the cluster again first")
	cmd.Flags().BoolVar(&hard, "hard-refresh", false, "render again as well")
	addOutputFlag(cmd, &output)
	return cmd
}

func runAppGet(ctx context.Context, o *appOptions, name, refresh, output string, out io.Writer) error {
	c, obj, err := o.open(ctx, name)
	if err != nil {
		return err
	}
	if refresh != "" {
		if obj, err = refreshed(ctx, c, obj, refresh); err != nil {
			return err
		}
	}
	obj.SetManagedFields(nil)
	return printData(out, output, obj, func(t *tabwriter.Writer) {
		switch obj := obj.(type) {
		case *argo.Application:
			printApplication(t, obj, windowsOf(ctx, c, obj))
		case *kustomizev1.Kustomization:
			printKustomization(t, obj)
		case *helmv2.HelmRelease:
			printHelmRelease(t, obj)
		}
	})
}

// refreshed asks for a refresh and waits until it is answered.
func refreshed(ctx context.Context, c client.WithWatch, obj client.Object, kind string) (client.Object, error) {
	asked := map[string]string{argo.AnnotationRefresh: kind}
	token := time.Now().Format(time.RFC3339Nano)
	if _, ok := fluxOf(obj); ok {
		asked = map[string]string{flux.AnnotationReconcile: token}
	}
	if err := annotate(ctx, c, obj, asked); err != nil {
		return nil, err
	}
	err := follow(ctx, c, obj, time.Minute, func(o client.Object) bool {
		obj = o
		if f, ok := fluxOf(o); ok {
			return f.handled == token
		}
		return o.GetAnnotations()[argo.AnnotationRefresh] == ""
	})
	return obj, err
}

// annotate sets annotations; an empty value removes one.
func annotate(ctx context.Context, c client.Client, obj client.Object, set map[string]string) error {
	before := obj.DeepCopyObject().(client.Object)
	annotations := map[string]string{}
	for k, v := range obj.GetAnnotations() {
		annotations[k] = v
	}
	for k, v := range set {
		annotations[k] = v
		if v == "" {
			delete(annotations, k)
		}
	}
	obj.SetAnnotations(annotations)
	if err := c.Patch(ctx, obj, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("changing the annotations of %s %s: %w", kindOf(obj), obj.GetName(), err)
	}
	return nil
}

func printApplication(t *tabwriter.Writer, app *argo.Application, windows *appWindows) {
	row := applicationRow(app)
	fmt.Fprintf(t, "Name:\t%s/%s\n", app.Namespace, app.Name)
	fmt.Fprintf(t, "Project:\t%s\n", app.Spec.Project)
	fmt.Fprintf(t, "Server:\t%s\n", cmp.Or(app.Spec.Destination.Server, app.Spec.Destination.Name))
	fmt.Fprintf(t, "Namespace:\t%s\n", app.Spec.Destination.Namespace)
	fmt.Fprintf(t, "Repo:\t%s\n", row.Source)
	if app.Spec.Source != nil {
		fmt.Fprintf(t, "Target:\t%s\n", cmp.Or(app.Spec.Source.TargetRevision, "HEAD"))
	}
	fmt.Fprintf(t, "Path:\t%s\n", row.Path)
	windows.print(t)
	fmt.Fprintf(t, "Sync Policy:\t%s\n", policyText(app.Spec.SyncPolicy))
	fmt.Fprintf(t, "Sync Status:\t%s\n", strings.TrimSpace(row.Sync+" "+row.Revision))
	fmt.Fprintf(t, "Health Status:\t%s\n", strings.TrimSpace(row.Health+" "+app.Status.Health.Message))
	if s := app.Status.OperationState; s != nil {
		fmt.Fprintf(t, "Operation:\t%s %s\n", s.Phase, s.Message)
	}
	if d := app.Status.Delivered; d != nil {
		fmt.Fprintf(t, "Delivered:\t%s at %s: rendered in %s, applied in %s, waited for %s\n", shortCommit(cmp.Or(d.Revision, strings.Join(d.Revisions, ","))),
			d.AppliedAt.UTC().Format(time.RFC3339), d.Took.Render.Duration, d.Took.Apply.Duration, d.Took.Wait.Duration)
		fmt.Fprintf(t, "Inputs:\t%s\n", d.Inputs)
	}
	for _, c := range app.Status.Conditions {
		fmt.Fprintf(t, "Condition:\t%s: %s\n", c.Type, strings.ReplaceAll(c.Message, "\n", "\n\t"))
	}
	if len(app.Status.Resources) == 0 {
		return
	}
	fmt.Fprintln(t, "\nGROUP\tKIND\tNAMESPACE\tNAME\tSTATUS\tHEALTH\tMESSAGE")
	for _, r := range app.Status.Resources {
		h := argo.HealthStatus{}
		if r.Health != nil {
			h = *r.Health
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Group, r.Kind, r.Namespace, r.Name, r.Status, h.Status, h.Message)
	}
}

func policyText(p *argo.SyncPolicy) string {
	if p == nil || p.Automated == nil {
		return "Manual"
	}
	s := "Automated"
	if p.Automated.Prune {
		s += " (Prune)"
	}
	if p.Automated.SelfHeal {
		s += " (SelfHeal)"
	}
	return s
}

func printKustomization(t *tabwriter.Writer, k *kustomizev1.Kustomization) {
	row := kustomizationRow(k)
	fmt.Fprintf(t, "Name:\t%s/%s\n", k.Namespace, k.Name)
	fmt.Fprintf(t, "Kind:\t%s\n", row.Kind)
	fmt.Fprintf(t, "Source:\t%s\n", row.Source)
	fmt.Fprintf(t, "Path:\t%s\n", row.Path)
	fmt.Fprintf(t, "Applied:\t%s\n", k.Status.LastAppliedRevision)
	if h := k.Status.History.Latest(); h != nil && h.Metadata["inputs"] != "" {
		fmt.Fprintf(t, "Delivered:\t%s at %s: rendered in %s, applied in %s, waited for %s\n", h.Metadata["revision"],
			h.LastReconciled.UTC().Format(time.RFC3339), h.Metadata["render"], h.Metadata["apply"], h.Metadata["wait"])
		fmt.Fprintf(t, "Inputs:\t%s\n", h.Metadata["inputs"])
	}
	for _, c := range k.Status.Conditions {
		fmt.Fprintf(t, "Condition:\t%s=%s %s: %s\n", c.Type, c.Status, c.Reason, c.Message)
	}
	if k.Status.Inventory == nil {
		return
	}
	fmt.Fprintln(t, "\nOBJECT\tVERSION")
	for _, e := range k.Status.Inventory.Entries {
		fmt.Fprintf(t, "%s\t%s\n", e.ID, e.Version)
	}
}
