package main

import (
	"errors"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/fairway-cd/fairway/internal/app"
	"github.com/fairway-cd/fairway/internal/controller"
	"github.com/fairway-cd/fairway/internal/core"
)

func newServeCommand(g *globals) *cobra.Command {
	var progressFD int
	var lockdown controller.Lockdown
	cmd := &cobra.Command{
		Use:    "serve",
		Short:  "Run the instance in the foreground",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			inst, err := g.instance()
			if err != nil {
				return err
			}
			if err := layLockdown(cmd.Flags(), lockdown, &inst.Config.Lockdown); err != nil {
				return err
			}
			progress, err := app.ProgressWriter(progressFD)
			if err != nil {
				return err
			}
			slog.SetDefault(slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
			err = app.NewServer(inst, progress).Run(cmd.Context())
			if err != nil {
				step := app.Step{Error: err.Error()}
				var hinted core.Hinted
				switch {
				case cmd.Context().Err() != nil:
					step.Error = "it was stopped before it was ready"
				case errors.As(err, &hinted):
					step.Hint = hinted.Hint()
				}
				progress(step)
			}
			return err
		},
	}
	addLockdownFlags(cmd.Flags(), &lockdown)
	cmd.Flags().IntVar(&progressFD, "progress-fd", 0, "write the progress of the start to this file descriptor")
	return cmd
}
