package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/fairway-cd/fairway/internal/app"
)

func newDownCommand(g *globals) *cobra.Command {
	var purge bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Stop the instance; its data stay",
		Long: `Stop the instance and everything that it started: no process, mount, network
link or control group is left behind, also after a server that was killed.
The data stay, and 'fairway up' goes on from there, unless --purge removes them
too: cluster, repositories, images. That cannot be undone.`,
		Example: "  fairway down\n  fairway down --data ./second --purge",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDown(cmd.Context(), g, purge, cmd.ErrOrStderr())
		},
	}
	cmd.Flags().BoolVar(&purge, "purge", false, "remove the data of the instance, too")
	return cmd
}

func runDown(ctx context.Context, g *globals, purge bool, log io.Writer) error {
	// A configuration that cannot be read is no reason to go on running.
	inst, err := app.InstanceAt(g.Data)
	if err != nil {
		return err
	}
	was, err := inst.Stop(ctx)
	if err != nil {
		return err
	}
	if purge {
		removed, err := inst.Purge()
		if err != nil {
			return err
		}
		if removed {
			fmt.Fprintln(log, "fairway is down, and its data are gone from", inst.Dir())
			return nil
		}
	}
	switch {
	case was:
		fmt.Fprintln(log, "fairway is down; its data are in", inst.Dir())
	default:
		fmt.Fprintln(log, "fairway was not up")
	}
	return nil
}
