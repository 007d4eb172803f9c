package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func newResumeCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "resume",
		Short: "Have an instance deliver that was started with --paused",
		Long: `Have an instance deliver that was started with --paused: at once where it runs,
and else from the next 'fairway up' on.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			inst, err := g.instance()
			if err != nil {
				return err
			}
			was, err := inst.Resume(cmd.Context())
			if err != nil {
				return err
			}
			if !was {
				return withHint(errors.New("the instance in "+inst.Dir()+" is not paused"), "'fairway status' says what it does")
			}
			fmt.Fprintln(cmd.ErrOrStderr(), "fairway is resumed")
			return nil
		},
	}
}
