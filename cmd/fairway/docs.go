package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// newDocsCommand writes the reference of the command line; make generate
// calls it.
func newDocsCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:    "docs DIR",
		Short:  "Write the reference of the command line",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := os.RemoveAll(args[0]); err != nil {
				return err
			}
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root.DisableAutoGenTag = true
			// What is different on every machine must not be in the reference.
			root.PersistentFlags().Lookup("data").DefValue = "~/.local/share/fairway"
			if err := doc.GenMarkdownTree(root, args[0]); err != nil {
				return fmt.Errorf("writing %s: %w", filepath.Clean(args[0]), err)
			}
			return nil
		},
	}
}
