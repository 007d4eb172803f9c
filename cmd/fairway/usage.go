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

// strictHelp has "help" say so where there is no such command, instead of
// showing another one's help.
func strictHelp(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		if cmd.Name() != "help" {
			continue
		}
		cmd.Args = func(_ *cobra.Command, args []string) error {
			of, rest, err := root.Find(args)
			switch {
			case err != nil:
				return &exitError{exitUsage, err}
			case len(rest) > 0:
				return unknown(of, rest[0])
			}
			return nil
		}
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
	return unknown(cmd, args[0])
}

// unknown says that cmd has no command of that name.
func unknown(cmd *cobra.Command, name string) error {
	err := &exitError{exitUsage, fmt.Errorf("unknown command %q", cmd.CommandPath()+" "+name)}
	cmd.SuggestionsMinimumDistance = suggestionDistance
	if near := cmd.SuggestionsFor(name); len(near) > 0 {
		return withHint(err, "did you mean "+strings.Join(near, " or ")+"?")
	}
	return withHint(err, fmt.Sprintf("'%s --help' lists the commands", cmd.CommandPath()))
}

// suggestionDistance is how many letters may be wrong in a command for it to be
// suggested.
const suggestionDistance = 2
