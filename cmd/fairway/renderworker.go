package main

import (
	"github.com/spf13/cobra"

	"github.com/fairway-cd/fairway/internal/appset"
	"github.com/fairway-cd/fairway/internal/render"
	"github.com/fairway-cd/fairway/internal/secrets/sealed"
)

// newRenderWorkerCommand is what a render pool runs: our own binary, fenced in.
func newRenderWorkerCommand() *cobra.Command {
	return &cobra.Command{
		Use:    render.WorkerCommand,
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return render.ServeWorker(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(),
				render.Program{Name: appset.Program, Run: appset.RunProgram},
				render.Program{Name: sealed.Program, Run: sealed.RunProgram})
		},
	}
}
