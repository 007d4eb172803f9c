package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// strictUsage makes every wrong command line below cmd an error with exit code
// 2. By itself cobra shows the help of a group for a word that it does not
// know, as if all were well, and tells wrong arguments from a failure by text
// alone.
func strictUsage(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return withHint(&exitError{exitUsage, err}, "usage: "+cmd.UseLine())
			}
			return nil
		}
	}
	if cmd.HasSubCommands() && !cmd.Runnable() {
		cmd.Args, cmd.RunE = cobra.ArbitraryArgs, runGroup
	}
	for _, child := range cmd.Commands() {
		strictUsage(child)
	}
}

// checkFlags does what cobra does later with an error that nobody can tell from
// a failure.
func checkFlags(cmd *cobra.Command) error {
	if err := cmd.ValidateRequiredFlags(); err != nil {
		return &exitError{exitUsage, err}
	}
	if err := cmd.ValidateFlagGroups(); err != nil {
		return &exitError{exitUsage, err}
	}
	return nil
}

// runGroup is a command that only has others: alone it says which.
func runGroup(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	err := &exitError{exitUsage, fmt.Errorf("unknown command %q", cmd.CommandPath()+" "+args[0])}
	cmd.SuggestionsMinimumDistance = suggestionDistance
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return withHint(err, "did you mean "+strings.Join(near, " or ")+"?")
	}
	return withHint(err, fmt.Sprintf("'%s --help' lists the commands", cmd.CommandPath()))
}

// suggestionDistance is how many letters may be wrong in a command for it to be
// suggested.
const suggestionDistance = 2
