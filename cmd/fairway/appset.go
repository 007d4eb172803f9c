package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

func newAppSetCommand(config func() (*rest.Config, string, error), api func(context.Context) (*apiClient, error)) *cobra.Command {
	o := &appOptions{config: config, api: api}
	cmd := &cobra.Command{
		Use:     "appset",
		Aliases: []string{"applicationset", "appsets"},
		Short:   "ApplicationSets: create, look at, preview",
		Long: `ApplicationSets: create, look at, preview.

NAME is the name of an ApplicationSet in --appset-namespace, or NAMESPACE/NAME.
FILE is a manifest; '-' is standard input.`,
	}
	cmd.PersistentFlags().StringVarP(&o.namespace, "appset-namespace", "N", "", "namespace of the ApplicationSet (default "+defaultAppNamespace+")")
	cmd.AddCommand(newAppSetListCommand(o), newAppSetGetCommand(o), newAppSetCreateCommand(o), newAppSetPreviewCommand(o), newAppSetDeleteCommand(o))
	completeNames(cmd, func(ctx context.Context) ([]string, error) {
		return o.namesOf(ctx, argo.GroupVersion.WithKind(argo.ApplicationSetKind), o.appNamespace())
	})
	return cmd
}

func newAppSetListCommand(o *appOptions) *cobra.Command {
	var output, selector string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List ApplicationSets",
		Example: "  fairway appset list\n  fairway appset list -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runAppSetList(cmd.Context(), o, selector, output, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVarP(&selector, "selector", "l", "", "label selector")
	addOutputFlag(cmd, &output)
	return cmd
}

// setRow is an ApplicationSet as a person wants to see it.
type setRow struct {
	Namespace    string `json:"namespace"`
	Name         string `json:"name"`
	Applications int64  `json:"applications"`
	Synced       int    `json:"synced"`
	Healthy      int    `json:"healthy"`
	Policy       string `json:"policy"`
	State        string `json:"state"`
	Message      string `json:"message,omitempty"`
}

func runAppSetList(ctx context.Context, o *appOptions, selector, output string, out io.Writer) error {
	match, err := labels.Parse(selector)
	if err != nil {
		return usage("--selector: %v", err)
	}
	c, err := o.client()
	if err != nil {
		return err
	}
	var sets argo.ApplicationSetList
	if err := c.List(ctx, &sets, client.InNamespace(o.namespace), client.MatchingLabelsSelector{Selector: match}); err != nil && !missing(err) {
		return fmt.Errorf("listing ApplicationSets: %w", err)
	}
	rows := []setRow{}
	for i := range sets.Items {
		rows = append(rows, applicationSetRow(&sets.Items[i]))
	}
	slices.SortFunc(rows, func(a, b setRow) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return printData(out, output, rows, func(t *tabwriter.Writer) {
		fmt.Fprintln(t, "NAMESPACE\tNAME\tAPPLICATIONS\tSYNCED\tHEALTHY\tPOLICY\tSTATE")
		for _, r := range rows {
			fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%s\t%s\n", r.Namespace, r.Name, r.Applications, r.Synced, r.Healthy, r.Policy, r.State)
		}
	})
}

func applicationSetRow(set *argo.ApplicationSet) setRow {
	r := setRow{Namespace: set.Namespace, Name: set.Name, Applications: set.Status.ResourcesCount, Policy: "sync", State: "Unknown"}
	if p := set.Spec.SyncPolicy; p != nil && p.ApplicationsSync != nil {
		r.Policy = string(*p.ApplicationsSync)
	}
	for _, app := range set.Status.Resources {
		if app.Status == argo.SyncSynced {
			r.Synced++
		}
		if app.Health != nil && app.Health.Status == "Healthy" {
			r.Healthy++
		}
	}
	for _, c := range set.Status.Conditions {
		switch {
		case c.Type == argo.SetConditionErrorOccurred && c.Status == "True":
			r.State, r.Message = "Error", c.Message
			return r
		case c.Type == argo.SetConditionRolloutProgressing && c.Status == "True":
			r.State, r.Message = "RollingOut", c.Message
		case c.Type == argo.SetConditionResourcesUpToDate && c.Status == "True" && r.State == "Unknown":
			r.State = "UpToDate"
		}
	}
	return r
}

func newAppSetGetCommand(o *appOptions) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "get NAME",
		Short:   "Show an ApplicationSet: its Applications, and what is wrong",
		Example: "  fairway appset get fleet\n  fairway appset get fleet -o yaml",
		Args:    oneSet,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runAppSetGet(cmd.Context(), o, args[0], output, cmd.OutOrStdout())
		},
	}
	addOutputFlag(cmd, &output)
	return cmd
}

func oneSet(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usage("want the name of one ApplicationSet")
	}
	return nil
}

func runAppSetGet(ctx context.Context, o *appOptions, name, output string, out io.Writer) error {
	_, set, err := o.openSet(ctx, name)
	if err != nil {
		return err
	}
	set.SetManagedFields(nil)
	return printData(out, output, set, func(t *tabwriter.Writer) { printApplicationSet(t, set) })
}

// openSet returns a client of the Kubernetes API and the set of that name.
func (o *appOptions) openSet(ctx context.Context, name string) (client.Client, *argo.ApplicationSet, error) {
	c, err := o.client()
	if err != nil {
		return nil, nil, err
	}
	key, _ := o.key(name)
	set := &argo.ApplicationSet{}
	switch err := c.Get(ctx, key, set); {
	case missing(err):
		return nil, nil, withHint(fmt.Errorf("there is no ApplicationSet %s", key), "'fairway appset list' lists them")
	case err != nil:
		return nil, nil, fmt.Errorf("reading ApplicationSet %s: %w", key, err)
	}
	return c, set, nil
}

func printApplicationSet(t *tabwriter.Writer, set *argo.ApplicationSet) {
	row := applicationSetRow(set)
	fmt.Fprintf(t, "Name:\t%s/%s\n", set.Namespace, set.Name)
	fmt.Fprintf(t, "Project:\t%s\n", set.Spec.Template.Spec.Project)
	fmt.Fprintf(t, "Policy:\t%s\n", row.Policy)
	fmt.Fprintf(t, "State:\t%s\n", row.State)
	fmt.Fprintf(t, "Applications:\t%d, %d synced, %d healthy\n", row.Applications, row.Synced, row.Healthy)
	for _, c := range set.Status.Conditions {
		fmt.Fprintf(t, "Condition:\t%s=%s %s: %s\n", c.Type, c.Status, c.Reason, strings.ReplaceAll(c.Message, "\n", "\n\t"))
	}
	steps := map[string]argo.ApplicationSetApplicationStatus{}
	for _, s := range set.Status.ApplicationStatus {
		steps[s.Application] = s
	}
	if len(set.Status.Resources) == 0 {
		return
	}
	fmt.Fprintln(t, "\nAPPLICATION\tSYNC\tHEALTH\tSTEP\tROLLOUT")
	for _, r := range set.Status.Resources {
		health := ""
		if r.Health != nil {
			health = r.Health.Status
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", r.Name, cmp.Or(string(r.Status), "Unknown"), cmp.Or(health, "Unknown"), steps[r.Name].Step, steps[r.Name].Status)
	}
}

func newAppSetCreateCommand(o *appOptions) *cobra.Command {
	var upsert bool
	cmd := &cobra.Command{
		Use:     "create FILE",
		Short:   "Create an ApplicationSet",
		Example: "  fairway appset create fleet.yaml\n  fairway appset create fleet.yaml --upsert",
		Args:    oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runAppSetCreate(cmd.Context(), o, args[0], upsert, cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&upsert, "upsert", false, "replace the spec of an ApplicationSet that is there")
	return cmd
}

func oneFile(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usage("want one file with an ApplicationSet")
	}
	return nil
}

// readSet reads a manifest, as it is, and checks that its fields are known.
func (o *appOptions) readSet(file string, in io.Reader) (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{}
	if err := readManifest(file, in, &u.Object); err != nil {
		return nil, err
	}
	if u.GetKind() != argo.ApplicationSetKind || u.GetAPIVersion() != argo.GroupVersion.String() {
		return nil, usage("%s is not an ApplicationSet of %s", file, argo.GroupVersion)
	}
	if u.GetName() == "" {
		return nil, usage("the ApplicationSet needs a name")
	}
	if u.GetNamespace() == "" || o.namespace != "" {
		u.SetNamespace(o.appNamespace())
	}
	return u, nil
}

func runAppSetCreate(ctx context.Context, o *appOptions, file string, upsert bool, in io.Reader, out io.Writer) error {
	set, err := o.readSet(file, in)
	if err != nil {
		return err
	}
	c, err := o.client()
	if err != nil {
		return err
	}
	err = c.Create(ctx, set)
	switch {
	case err == nil:
		fmt.Fprintf(out, "applicationset '%s' created\n", set.GetName())
		return nil
	case apierrors.IsAlreadyExists(err) && upsert:
		return replaceSet(ctx, c, set, out)
	case apierrors.IsAlreadyExists(err):
		return withHint(fmt.Errorf("applicationset %s is there", set.GetName()), "replace its spec with --upsert; 'fairway appset preview' says what that would do")
	}
	return fmt.Errorf("creating applicationset %s: %w", set.GetName(), err)
}

func replaceSet(ctx context.Context, c client.Client, set *unstructured.Unstructured, out io.Writer) error {
	live := &unstructured.Unstructured{}
	live.SetGroupVersionKind(set.GroupVersionKind())
	if err := c.Get(ctx, client.ObjectKeyFromObject(set), live); err != nil {
		return fmt.Errorf("reading applicationset %s: %w", set.GetName(), err)
	}
	was := live.GetResourceVersion()
	before := live.DeepCopy()
	live.Object["spec"] = set.Object["spec"]
	if err := c.Patch(ctx, live, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("replacing applicationset %s: %w", set.GetName(), err)
	}
	did := "updated"
	if live.GetResourceVersion() == was {
		did = "unchanged"
	}
	fmt.Fprintf(out, "applicationset '%s' %s\n", set.GetName(), did)
	return nil
}

func newAppSetDeleteCommand(o *appOptions) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete an ApplicationSet and its Applications",
		Long: `Delete an ApplicationSet and its Applications, with what they have deployed. Its
policy is heeded: with create-only and create-update the Applications stay, with
preserveResourcesOnDeletion what they have deployed stays.`,
		Example: "  fairway appset delete fleet",
		Args:    oneSet,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, set, err := o.openSet(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if err := c.Delete(cmd.Context(), set, client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
				return fmt.Errorf("deleting applicationset %s: %w", set.Name, err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "applicationset '%s' deleted\n", set.Name)
			return nil
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "accepted and without effect: nothing is asked")
	return cmd
}

// previewPath is where the server previews the set.
func previewPath(set *unstructured.Unstructured) (method, path string) {
	return http.MethodPost, "/api/v1/applicationsets/" + url.PathEscape(set.GetNamespace()) + "/" + url.PathEscape(set.GetName()) + "/preview"
}
