package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newDownCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Stop the instance; its data stay",
		Long: `Stop the instance and everything that it started: no process, mount, network
link or control group is left behind, also after a server that was killed.
The data stay, and 'fairway up' goes on from there.`,
		Example: "  fairway down\n  fairway down --data ./second",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			inst, err := g.instance()
			if err != nil {
				return err
			}
			was, err := inst.Stop(cmd.Context())
			if err != nil {
				return err
			}
			if was {
				fmt.Fprintln(cmd.ErrOrStderr(), "fairway is down; its data are in", inst.Dir())
			} else {
				fmt.Fprintln(cmd.ErrOrStderr(), "fairway was not up")
			}
			return nil
		},
	}
}
