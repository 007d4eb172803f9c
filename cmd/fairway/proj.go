package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

func newProjCommand(config func() (*rest.Config, string, error)) *cobra.Command {
	o := &appOptions{config: config}
	cmd := &cobra.Command{
		Use:     "proj",
		Aliases: []string{"project", "projects"},
		Short:   "AppProjects: what Applications may deliver, and when",
		Long: `AppProjects: what Applications may deliver, and when.

Commands and flags have the names that 'argocd proj' gives them. Projects are in
the namespace argocd.`,
	}
	cmd.AddCommand(newProjListCommand(o), newProjGetCommand(o), newProjCreateCommand(o), newProjDeleteCommand(o), newProjWindowsCommand(o))
	for _, edit := range projEdits {
		cmd.AddCommand(newProjEditCommand(o, edit))
	}
	completeNames(cmd, func(ctx context.Context) ([]string, error) {
		return o.namesOf(ctx, argo.GroupVersion.WithKind(argo.AppProjectKind), defaultAppNamespace)
	})
	return cmd
}

// openProject returns a client of the Kubernetes API and the project.
func (o *appOptions) openProject(ctx context.Context, name string) (client.Client, *argo.AppProject, error) {
	c, err := o.client()
	if err != nil {
		return nil, nil, err
	}
	p := &argo.AppProject{}
	switch err := c.Get(ctx, client.ObjectKey{Namespace: defaultAppNamespace, Name: name}, p); {
	case missing(err):
		return nil, nil, withHint(fmt.Errorf("there is no project %s", name), "'fairway proj list' lists them")
	case err != nil:
		return nil, nil, fmt.Errorf("reading project %s: %w", name, err)
	}
	return c, p, nil
}

// changeProject changes a project as it stands now, and tries again where
// somebody has changed it meanwhile.
func (o *appOptions) changeProject(ctx context.Context, name string, change func(*argo.AppProject) error) error {
	for try := 0; ; try++ {
		c, p, err := o.openProject(ctx, name)
		if err != nil {
			return err
		}
		before := p.DeepCopy()
		if err := change(p); err != nil {
			return err
		}
		err = c.Patch(ctx, p, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
		switch {
		case err == nil:
			return nil
		case !apierrors.IsConflict(err) || try == 4:
			return fmt.Errorf("changing project %s: %w", name, err)
		}
	}
}

func newProjListCommand(o *appOptions) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List projects",
		Example: "  fairway proj list",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runProjList(cmd.Context(), o, output, cmd.OutOrStdout())
		},
	}
	addOutputFlag(cmd, &output)
	return cmd
}

func runProjList(ctx context.Context, o *appOptions, output string, out io.Writer) error {
	c, err := o.client()
	if err != nil {
		return err
	}
	var list argo.AppProjectList
	if err := c.List(ctx, &list, client.InNamespace(defaultAppNamespace)); err != nil && !missing(err) {
		return fmt.Errorf("listing projects: %w", err)
	}
	items := []argo.AppProject{}
	for i := range list.Items {
		list.Items[i].ManagedFields = nil
		items = append(items, list.Items[i])
	}
	slices.SortFunc(items, func(a, b argo.AppProject) int { return cmp.Compare(a.Name, b.Name) })
	return printData(out, output, items, func(t *tabwriter.Writer) {
		fmt.Fprintln(t, "NAME\tDESCRIPTION\tDESTINATIONS\tSOURCES\tCLUSTER-RESOURCES\tWINDOWS\tORPHANS")
		for i := range items {
			s := &items[i].Spec
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%s\n", items[i].Name, s.Description, some(destinationTexts(s.Destinations)), some(s.SourceRepos),
				some(restrictionTexts(s.ClusterResourceWhitelist)), len(s.SyncWindows), orphansText(s.OrphanedResources))
		}
	})
}

// some is the one text of a list, or how many there are.
func some(list []string) string {
	switch len(list) {
	case 0:
		return "none"
	case 1:
		return list[0]
	}
	return fmt.Sprintf("%d", len(list))
}

func destinationTexts(list []argo.ApplicationDestination) []string {
	var out []string
	for _, d := range list {
		out = append(out, cmp.Or(d.Server, d.Name)+","+d.Namespace)
	}
	return out
}

func restrictionTexts(list []argo.ClusterResourceRestriction) []string {
	var out []string
	for _, r := range list {
		out = append(out, strings.TrimSuffix(r.Group+"/"+r.Kind+"/"+r.Name, "/"))
	}
	return out
}

func kindTexts(list []metav1.GroupKind) []string {
	var out []string
	for _, k := range list {
		out = append(out, k.Group+"/"+k.Kind)
	}
	return out
}

func orphansText(o *argo.OrphanedResources) string {
	switch {
	case o == nil:
		return "disabled"
	case o.Warn != nil && *o.Warn:
		return fmt.Sprintf("enabled (warn=true, ignored %d)", len(o.Ignore))
	}
	return fmt.Sprintf("enabled (warn=false, ignored %d)", len(o.Ignore))
}

func newProjGetCommand(o *appOptions) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "get NAME",
		Short:   "Show a project: what it permits, and when",
		Example: "  fairway proj get default\n  fairway proj get default -o yaml",
		Args:    oneProject,
		RunE: func(cmd *cobra.Command, args []string) error {
			_, p, err := o.openProject(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			p.ManagedFields = nil
			return printData(cmd.OutOrStdout(), output, p, func(t *tabwriter.Writer) { printProject(t, p) })
		},
	}
	addOutputFlag(cmd, &output)
	return cmd
}

func oneProject(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usage("want the name of one project")
	}
	return nil
}

func printProject(t *tabwriter.Writer, p *argo.AppProject) {
	line := func(title string, list []string) {
		if len(list) == 0 {
			fmt.Fprintf(t, "%s:\t<none>\n", title)
		}
		for i, text := range list {
			if i > 0 {
				title = ""
			} else {
				title += ":"
			}
			fmt.Fprintf(t, "%s\t%s\n", title, text)
		}
	}
	s := &p.Spec
	fmt.Fprintf(t, "Name:\t%s\n", p.Name)
	fmt.Fprintf(t, "Description:\t%s\n", s.Description)
	line("Destinations", destinationTexts(s.Destinations))
	line("Repositories", s.SourceRepos)
	line("Source Namespaces", s.SourceNamespaces)
	line("Allowed Cluster Resources", restrictionTexts(s.ClusterResourceWhitelist))
	line("Denied Cluster Resources", restrictionTexts(s.ClusterResourceBlacklist))
	line("Allowed Namespaced Resources", kindTexts(s.NamespaceResourceWhitelist))
	line("Denied Namespaced Resources", kindTexts(s.NamespaceResourceBlacklist))
	var keys, accounts []string
	for _, k := range s.SignatureKeys {
		keys = append(keys, k.KeyID)
	}
	for _, a := range s.DestinationServiceAccounts {
		accounts = append(accounts, a.Server+","+a.Namespace+","+a.DefaultServiceAccount)
	}
	line("Signature Keys", keys)
	line("Service Accounts", accounts)
	fmt.Fprintf(t, "Orphaned Resources:\t%s\n", orphansText(s.OrphanedResources))
	if len(s.Roles) > 0 {
		fmt.Fprintf(t, "Roles:\t%d, which are not enforced: permissions are Kubernetes RBAC\n", len(s.Roles))
	}
	if len(s.SyncWindows) > 0 {
		fmt.Fprintln(t)
		printWindows(t, s.SyncWindows)
	}
}

// projCreateFlags have the names that "argocd proj create" gives them.
type projCreateFlags struct {
	file, description            string
	upsert, orphans, orphansWarn bool
	edits                        map[string]*[]string
}

func newProjCreateCommand(o *appOptions) *cobra.Command {
	f := &projCreateFlags{}
	var dest, src, namespaces, allow, keys []string
	cmd := &cobra.Command{
		Use:     "create [NAME]",
		Short:   "Create a project",
		Example: "  fairway proj create shop --dest https://kubernetes.default.svc,'shop-*' --src https://github.com/myorg/shop\n  fairway proj create --file shop.yaml --upsert",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := f.project(args, cmd.InOrStdin())
			if err != nil {
				return err
			}
			return runProjCreate(cmd.Context(), o, p, f.upsert, cmd.OutOrStdout())
		},
	}
	f.edits = map[string]*[]string{"add-destination": &dest, "add-source": &src, "add-source-namespace": &namespaces, "allow-cluster-resource": &allow, "add-signature-key": &keys}
	flags := cmd.Flags()
	flags.StringVarP(&f.file, "file", "f", "", "manifest of the project; '-' is standard input")
	flags.StringVar(&f.description, "description", "", "for people")
	flags.BoolVar(&f.upsert, "upsert", false, "replace the spec of a project that is there")
	flags.StringArrayVarP(&dest, "dest", "d", nil, "SERVER-OR-NAME,NAMESPACE; can be repeated")
	flags.StringArrayVarP(&src, "src", "s", nil, "URL of a repository; can be repeated")
	flags.StringArrayVar(&namespaces, "source-namespaces", nil, "namespace of Applications beside argocd; can be repeated")
	flags.StringArrayVar(&allow, "allow-cluster-resource", nil, "GROUP/KIND; can be repeated")
	flags.StringArrayVar(&keys, "signature-keys", nil, "ID of a key that commits must be signed with; can be repeated")
	flags.BoolVar(&f.orphans, "orphaned-resources", false, "look for orphaned resources")
	flags.BoolVar(&f.orphansWarn, "orphaned-resources-warn", false, "and warn of them")
	return cmd
}

// project is what the command line asks for.
func (f *projCreateFlags) project(args []string, in io.Reader) (*argo.AppProject, error) {
	p := &argo.AppProject{}
	if f.file != "" {
		if err := readManifest(f.file, in, p); err != nil {
			return nil, err
		}
		if p.Kind != argo.AppProjectKind || p.APIVersion != argo.GroupVersion.String() {
			return nil, usage("%s is not an AppProject of %s", f.file, argo.GroupVersion)
		}
	}
	if len(args) == 1 {
		p.Name = args[0]
	}
	if p.Name == "" {
		return nil, usage("the project needs a name")
	}
	p.Namespace, p.ResourceVersion = defaultAppNamespace, ""
	p.Spec.Description = cmp.Or(f.description, p.Spec.Description)
	if f.orphans || f.orphansWarn {
		p.Spec.OrphanedResources = &argo.OrphanedResources{Warn: &f.orphansWarn}
	}
	for _, edit := range projEdits {
		values := f.edits[edit.name]
		if values == nil {
			continue
		}
		for _, value := range *values {
			args := []string{value}
			if edit.split != "" {
				args = strings.SplitN(value, edit.split, 2)
			}
			if len(args) != len(edit.args) {
				return nil, usage("%q: want %s", value, strings.Join(edit.args, edit.split))
			}
			if err := edit.change(p, args); err != nil {
				return nil, err
			}
		}
	}
	return p, nil
}

func runProjCreate(ctx context.Context, o *appOptions, p *argo.AppProject, upsert bool, out io.Writer) error {
	c, err := o.client()
	if err != nil {
		return err
	}
	spec := p.Spec.DeepCopy()
	err = c.Create(ctx, p)
	switch {
	case err == nil:
		fmt.Fprintf(out, "project '%s' created\n", p.Name)
		return nil
	case apierrors.IsAlreadyExists(err) && upsert:
		if err := o.changeProject(ctx, p.Name, func(live *argo.AppProject) error { live.Spec = *spec; return nil }); err != nil {
			return err
		}
		fmt.Fprintf(out, "project '%s' updated\n", p.Name)
		return nil
	case apierrors.IsAlreadyExists(err):
		return withHint(fmt.Errorf("project %s is there", p.Name), "replace its spec with --upsert")
	}
	return fmt.Errorf("creating project %s: %w", p.Name, err)
}

func newProjDeleteCommand(o *appOptions) *cobra.Command {
	return &cobra.Command{
		Use:     "delete NAME",
		Short:   "Delete a project that no Application is in",
		Example: "  fairway proj delete shop",
		Args:    oneProject,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runProjDelete(cmd.Context(), o, args[0], cmd.OutOrStdout())
		},
	}
}

func runProjDelete(ctx context.Context, o *appOptions, name string, out io.Writer) error {
	c, p, err := o.openProject(ctx, name)
	if err != nil {
		return err
	}
	var apps argo.ApplicationList
	if err := c.List(ctx, &apps); err != nil && !missing(err) {
		return fmt.Errorf("listing Applications: %w", err)
	}
	for i := range apps.Items {
		if cmp.Or(apps.Items[i].Spec.Project, argo.DefaultProject) == name {
			return fmt.Errorf("project %s is in use: Application %s/%s is in it", name, apps.Items[i].Namespace, apps.Items[i].Name)
		}
	}
	if err := c.Delete(ctx, p); err != nil {
		return fmt.Errorf("deleting project %s: %w", name, err)
	}
	fmt.Fprintf(out, "project '%s' deleted\n", name)
	return nil
}
