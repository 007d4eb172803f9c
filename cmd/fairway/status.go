package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/fairway-cd/fairway/internal/app"
)

func newStatusCommand(g *globals) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say whether the instance runs, and where everything is",
		Long: `Say whether the instance runs, and where everything is. In JSON and YAML,
gitURL holds the operator's credential, so that plain git can push to it as it
stands: treat it like a password.`,
		Example: "  fairway status\n  git push $(fairway status -o jsonpath={.gitURL})/web-app.git main",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			inst, err := g.instance()
			if err != nil {
				return err
			}
			status, err := inst.Status(cmd.Context())
			if err != nil {
				return err
			}
			return printStatus(cmd.OutOrStdout(), status, output)
		},
	}
	addOutputFlag(cmd, &output)
	return cmd
}

func printStatus(w io.Writer, s app.Status, output string) error {
	return printData(w, output, s, func(t *tabwriter.Writer) { printStatusTable(t, s) })
}

func printStatusTable(t *tabwriter.Writer, s app.Status) {
	row := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s\t"+format+"\n", append([]any{name}, args...)...)
	}
	row("state", "%s", s.State)
	if s.Paused {
		row("paused", "nothing is delivered before 'fairway resume'")
	}
	row("version", "%s", s.Version)
	if s.State == app.StateStopped || s.State == app.StateHalf {
		row("data", "%s", s.Data)
		return
	}
	row("UI", "%s", s.UIURL)
	row("API", "%s", s.APIURL)
	row("Git", "%s/NAME.git", s.PublicGitURL())
	row("registry", "%s/NAME", s.Registry)
	row("kubeconfig", "%s", s.Kubeconfig)
	for _, n := range s.Nodes {
		row("node", "%s (%s, %s)", n.Name, n.Kind, n.Condition)
	}
	for _, d := range s.Degraded {
		row("degraded", "%s", d)
	}
	if s.CA != "" {
		row("CA", "%s", s.CA)
	}
	row("process", "%d (cluster %d)", s.PID, s.ClusterPID)
	row("data", "%s", s.Data)
}
