package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/fairway-cd/fairway/internal/web"
)

func newSourceCommand(api func(context.Context) (*apiClient, error)) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "source",
		Aliases: []string{"sources"},
		Short:   "Where Kustomizations and HelmReleases come from",
	}
	cmd.AddCommand(newSourceListCommand(api))
	return cmd
}

// sourceSelection are the sources that are listed.
type sourceSelection struct {
	kind, namespace string
	notReady        bool
}

func newSourceListCommand(api func(context.Context) (*apiClient, error)) *cobra.Command {
	var output string
	var which sourceSelection
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List GitRepositories, OCIRepositories, HelmRepositories and HelmCharts",
		Long: `List GitRepositories, OCIRepositories, HelmRepositories and HelmCharts: where they
are, what was found there last, and what is wrong. The server answers; it can be
on any machine (--server).`,
		Example: "  fairway source list\n  fairway source list --kind GitRepository -n production\n  fairway source list --not-ready -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runSourceList(cmd.Context(), api, which, output, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&which.kind, "kind", "", "only those of the kind, such as GitRepository")
	cmd.Flags().StringVarP(&which.namespace, "namespace", "n", "", "only those of the namespace (default all)")
	cmd.Flags().BoolVar(&which.notReady, "not-ready", false, "only those that are not ready")
	addOutputFlag(cmd, &output)
	return cmd
}

// sourceKinds are the kinds, as --kind takes them.
var sourceKinds = []string{"GitRepository", "OCIRepository", "HelmRepository", "HelmChart"}

func runSourceList(ctx context.Context, api func(context.Context) (*apiClient, error), which sourceSelection, output string, out io.Writer) error {
	kind := slices.IndexFunc(sourceKinds, func(k string) bool { return strings.EqualFold(k, which.kind) })
	if which.kind != "" && kind < 0 {
		return usage("--kind %q: want %s", which.kind, strings.Join(sourceKinds, ", "))
	}
	server, err := api(ctx)
	if err != nil {
		return err
	}
	var all []web.Source
	if err := server.do(ctx, http.MethodGet, "/api/v1/sources", nil, &all); err != nil {
		return fmt.Errorf("listing sources: %w", err)
	}
	all = slices.DeleteFunc(all, func(s web.Source) bool {
		return which.kind != "" && s.Kind != sourceKinds[kind] || which.namespace != "" && s.Namespace != which.namespace ||
			which.notReady && s.Ready == "True"
	})
	return printData(out, output, all, func(t *tabwriter.Writer) {
		fmt.Fprintln(t, "KIND\tNAMESPACE\tNAME\tREADY\tREVISION\tAGE\tURL\tMESSAGE")
		for _, s := range all {
			ready, message := s.Ready, ""
			if s.Suspended {
				ready = "Suspended"
			}
			if s.Ready != "True" {
				message, _, _ = strings.Cut(s.Message, "\n")
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Kind, s.Namespace, s.Name, ready, s.Revision,
				duration.HumanDuration(time.Since(s.Created)), s.URL, message)
		}
	})
}
