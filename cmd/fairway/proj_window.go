package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/syncwindow"
)

func newProjWindowsCommand(o *appOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "windows",
		Short: "Sync windows of a project: when its Applications may be synced",
	}
	cmd.AddCommand(newWindowsListCommand(o), newWindowsAddCommand(o), newWindowsChangeCommand(o, "delete", "Delete a window", func(list *[]argo.SyncWindow, i int) {
		*list = slices.Delete(*list, i, i+1)
	}))
	for _, c := range []struct {
		name, short string
		set         func(*argo.SyncWindow)
	}{
		{"enable-manual-sync", "Permit manual syncs though a window forbids syncs", func(w *argo.SyncWindow) { w.ManualSync = true }},
		{"disable-manual-sync", "Permit no manual syncs where a window forbids syncs", func(w *argo.SyncWindow) { w.ManualSync = false }},
		{"enable-sync-overrun", "Let what runs go on when a window forbids syncs", func(w *argo.SyncWindow) { w.SyncOverrun = true }},
		{"disable-sync-overrun", "Hold what runs when a window forbids syncs", func(w *argo.SyncWindow) { w.SyncOverrun = false }},
	} {
		cmd.AddCommand(newWindowsChangeCommand(o, c.name, c.short, func(list *[]argo.SyncWindow, i int) { c.set(&(*list)[i]) }))
	}
	return cmd
}

// windowRow is a window as a person wants to see it.
type windowRow struct {
	ID     int    `json:"id"`
	Status string `json:"status"`
	argo.SyncWindow
}

func windowRows(list []argo.SyncWindow) []windowRow {
	rows := []windowRow{}
	for i, s := range list {
		row := windowRow{ID: i, Status: "Inactive", SyncWindow: s}
		switch w, err := syncwindow.Parse(s); {
		case err != nil:
			row.Status = "Invalid"
		case w.Active(time.Now()):
			row.Status = "Active"
		}
		rows = append(rows, row)
	}
	return rows
}

func printWindows(t *tabwriter.Writer, list []argo.SyncWindow) {
	names := func(list []string) string {
		if len(list) == 0 {
			return "-"
		}
		return strings.Join(list, ",")
	}
	enabled := func(on bool) string {
		if on {
			return "Enabled"
		}
		return "Disabled"
	}
	fmt.Fprintln(t, "ID\tSTATUS\tKIND\tSCHEDULE\tDURATION\tAPPLICATIONS\tNAMESPACES\tCLUSTERS\tMANUALSYNC\tSYNCOVERRUN\tTIMEZONE\tUSEANDOPERATOR")
	for _, w := range windowRows(list) {
		zone := w.TimeZone
		if zone == "" {
			zone = "UTC"
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", w.ID, w.Status, w.Kind, w.Schedule, w.Duration,
			names(w.Applications), names(w.Namespaces), names(w.Clusters), enabled(w.ManualSync), enabled(w.SyncOverrun), zone, enabled(w.UseAndOperator))
	}
}

func newWindowsListCommand(o *appOptions) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "list PROJECT",
		Short:   "List the windows of a project, and which are open",
		Example: "  fairway proj windows list default",
		Args:    oneProject,
		RunE: func(cmd *cobra.Command, args []string) error {
			_, p, err := o.openProject(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return printData(cmd.OutOrStdout(), output, windowRows(p.Spec.SyncWindows), func(t *tabwriter.Writer) { printWindows(t, p.Spec.SyncWindows) })
		},
	}
	addOutputFlag(cmd, &output)
	return cmd
}

func newWindowsAddCommand(o *appOptions) *cobra.Command {
	w := argo.SyncWindow{}
	cmd := &cobra.Command{
		Use:     "add PROJECT",
		Short:   "Add a window to a project",
		Example: "  fairway proj windows add default --kind deny --schedule '0 22 * * *' --duration 8h --time-zone Europe/Amsterdam --namespaces 'prod-*'",
		Args:    oneProject,
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := syncwindow.Parse(w); err != nil {
				return usage("%v", err)
			}
			if len(w.Applications)+len(w.Namespaces)+len(w.Clusters) == 0 {
				return usage("the window holds nobody: want --applications, --namespaces or --clusters")
			}
			return runWindowsChange(cmd.Context(), o, args[0], func(list *[]argo.SyncWindow) error {
				*list = append(*list, w)
				return nil
			}, cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&w.Kind, "kind", "k", syncwindow.Allow, "allow or deny")
	flags.StringVar(&w.Schedule, "schedule", "", "when it begins, in cron format ('0 22 * * *')")
	flags.StringVar(&w.Duration, "duration", "", "how long it is open (1h)")
	flags.StringSliceVar(&w.Applications, "applications", nil, "names of Applications")
	flags.StringSliceVar(&w.Namespaces, "namespaces", nil, "namespaces of destinations")
	flags.StringSliceVar(&w.Clusters, "clusters", nil, "clusters of destinations, by address or name")
	flags.BoolVar(&w.ManualSync, "manual-sync", false, "permit manual syncs though it forbids syncs")
	flags.BoolVar(&w.SyncOverrun, "sync-overrun", false, "let what runs go on when it forbids syncs")
	flags.StringVar(&w.TimeZone, "time-zone", "UTC", "of the schedule")
	flags.BoolVar(&w.UseAndOperator, "use-and-operator", false, "all of what is given has to match, and not one of it")
	flags.StringVar(&w.Description, "description", "", "for people")
	return cmd
}

// newWindowsChangeCommand changes one window, by its ID.
func newWindowsChangeCommand(o *appOptions, name, short string, change func(*[]argo.SyncWindow, int)) *cobra.Command {
	return &cobra.Command{
		Use:     name + " PROJECT ID",
		Short:   short,
		Example: "  fairway proj windows " + name + " default 0",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usage("want PROJECT ID")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.Atoi(args[1])
			if err != nil {
				return usage("%q is no ID of a window", args[1])
			}
			return runWindowsChange(cmd.Context(), o, args[0], func(list *[]argo.SyncWindow) error {
				if id < 0 || id >= len(*list) {
					return withHint(fmt.Errorf("project %s has no window %d", args[0], id), "'fairway proj windows list "+args[0]+"' lists them")
				}
				change(list, id)
				return nil
			}, cmd.OutOrStdout())
		},
	}
}

func runWindowsChange(ctx context.Context, o *appOptions, project string, change func(*[]argo.SyncWindow) error, out io.Writer) error {
	if err := o.changeProject(ctx, project, func(p *argo.AppProject) error { return change(&p.Spec.SyncWindows) }); err != nil {
		return err
	}
	fmt.Fprintf(out, "windows of project '%s' changed\n", project)
	return nil
}

// appWindows are the windows that hold an Application, and what they say now.
type appWindows struct {
	windows syncwindow.Windows
	// automated and manual are about a sync that would begin now.
	automated, manual syncwindow.Verdict
}

// windowsOf reads the Application's project. Who may not read it, or finds that
// it cannot be read, knows nothing of windows: nil.
func windowsOf(ctx context.Context, c client.Client, app *argo.Application) *appWindows {
	name := app.Spec.Project
	if name == "" {
		name = argo.DefaultProject
	}
	p := &argo.AppProject{}
	if c.Get(ctx, client.ObjectKey{Namespace: defaultAppNamespace, Name: name}, p) != nil {
		return nil
	}
	all, err := syncwindow.ParseAll(p.Spec.SyncWindows)
	if err != nil {
		return nil
	}
	w := &appWindows{windows: all.Of(app)}
	w.automated = w.windows.Judge(time.Now(), syncwindow.Operation{})
	w.manual = w.windows.Judge(time.Now(), syncwindow.Operation{Manual: true})
	return w
}

// print is what argocd says of them.
func (w *appWindows) print(t *tabwriter.Writer) {
	if w == nil {
		return
	}
	state := "Sync Allowed"
	switch {
	case !w.automated.Permitted && w.manual.Permitted:
		state = "Manual Allowed"
	case !w.automated.Permitted:
		state = "Sync Denied"
	}
	if until := w.automated.Until; !until.IsZero() {
		state += " (until " + until.Format(time.RFC3339) + ")"
	}
	fmt.Fprintf(t, "SyncWindow:\t%s\n", state)
	if len(w.windows) > 0 {
		fmt.Fprintf(t, "Assigned Windows:\t%s\n", w.windows)
	}
}
