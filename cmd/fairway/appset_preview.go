package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/appset"
	"github.com/fairway-cd/fairway/internal/controller"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
)

func newAppSetPreviewCommand(o *appOptions) *cobra.Command {
	var output string
	var exitCode, diff bool
	cmd := &cobra.Command{
		Use:     "preview FILE",
		Aliases: []string{"generate"},
		Short:   "Show what an ApplicationSet would create, change and delete",
		Long: `Show what an ApplicationSet would create, change and delete if it were applied as
the file has it, without doing it. The exit code is 1 where anything would be
done. The server runs the generators; it can be on any machine (--server).`,
		Example: "  fairway appset preview fleet.yaml\n  fairway appset preview fleet.yaml --diff\n  fairway appset preview fleet.yaml -o yaml",
		Args:    oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runAppSetPreview(cmd.Context(), o, args[0], output, diff, exitCode, cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&exitCode, "exit-code", true, "exit with 1 where anything would be done")
	cmd.Flags().BoolVar(&diff, "diff", false, "show the changes as unified diffs")
	addOutputFlag(cmd, &output)
	return cmd
}

func runAppSetPreview(ctx context.Context, o *appOptions, file, output string, diff, exitCode bool, in io.Reader, out io.Writer) error {
	if diff && output != "table" {
		return usage("--diff and --output contradict each other")
	}
	set, err := o.readSet(file, in)
	if err != nil {
		return err
	}
	api, err := o.api(ctx)
	if err != nil {
		return err
	}
	method, path := previewPath(set)
	var preview controller.SetPreview
	if err := api.do(ctx, method, path, set.Object, &preview); err != nil {
		return fmt.Errorf("previewing %s: %w", set.GetName(), err)
	}
	if diff {
		err = printPreviewDiff(out, set.GetNamespace(), &preview)
	} else {
		err = printData(out, output, preview.Items, func(t *tabwriter.Writer) {
			fmt.Fprintln(t, "ACTION\tAPPLICATION\tPROJECT\tDESTINATION\tSOURCE\tPATH\tREASON")
			for _, item := range preview.Items {
				printPreviewItem(t, &item)
			}
		})
	}
	if err != nil {
		return err
	}
	for _, item := range preview.Items {
		if exitCode && changes(item.Action) {
			return errDifferent()
		}
	}
	return nil
}

// changes says whether the action does anything.
func changes(a appset.Action) bool { return a != appset.Keep && a != appset.Hold }

func printPreviewItem(t *tabwriter.Writer, item *controller.SetPreviewItem) {
	app := item.Wanted
	if app == nil {
		app = item.Live
	}
	text := func(path ...string) string {
		if app == nil {
			return ""
		}
		s, _, _ := unstructured.NestedString(app.Object, path...)
		return s
	}
	source := func(field string) string {
		if s := text("spec", "source", field); s != "" || app == nil {
			return s
		}
		return firstSource(app.Object, field)
	}
	cluster := text("spec", "destination", "name")
	if cluster == "" {
		cluster = text("spec", "destination", "server")
	}
	fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", item.Action, item.Name, text("spec", "project"),
		cluster+"/"+text("spec", "destination", "namespace"), withoutPassword(source("repoURL")), source("path")+source("chart"), item.Reason)
}

// printPreviewDiff prints what would be done as unified diffs.
func printPreviewDiff(out io.Writer, namespace string, preview *controller.SetPreview) error {
	states := map[appset.Action]deploy.State{appset.Create: deploy.State("Create"), appset.Update: deploy.State("Update"), appset.Delete: deploy.State("Delete")}
	for _, item := range preview.Items {
		state, ok := states[item.Action]
		if !ok {
			continue
		}
		wanted := item.Wanted
		if item.Action == appset.Delete {
			wanted = nil
		}
		d := controller.DiffItem{
			Ref:   core.ObjectRef{Group: "argoproj.io", Kind: "Application", Namespace: namespace, Name: item.Name},
			State: state, Wanted: wanted, Live: item.Live,
		}
		if err := printDiff(out, d, isTerminal(out)); err != nil {
			return err
		}
	}
	return nil
}

// firstSource is a field of the first of several sources.
func firstSource(app map[string]any, field string) string {
	sources, _, _ := unstructured.NestedSlice(app, "spec", "sources")
	if len(sources) == 0 {
		return ""
	}
	source, _ := sources[0].(map[string]any)
	s, _ := source[field].(string)
	return s
}
