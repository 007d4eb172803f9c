package main

import (
	"fmt"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/fairway-cd/fairway/internal/app"
)

func newKubectlCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "kubectl …",
		Short: "Run kubectl on the instance's cluster",
		Long: `Run the kubectl that comes with the embedded cluster, on the instance's
cluster. Its arguments are passed through untouched, so options of fairway's
own come before the word kubectl.`,
		Example: "  fairway kubectl get pods -A\n  fairway --data ./second kubectl get nodes",
		// Everything behind the word is kubectl's.
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			inst, err := g.instance()
			if err != nil {
				return err
			}
			return execKubectl(inst, args)
		},
	}
}

// execKubectl replaces this process, so that terminal, signals and exit code
// are kubectl's own.
func execKubectl(inst *app.Instance, args []string) error {
	if err := requireUp(inst); err != nil {
		return err
	}
	program, err := app.ClusterProgram()
	if err != nil {
		return err
	}
	if err := os.Setenv("KUBECONFIG", inst.KubeconfigPath()); err != nil {
		return err
	}
	err = syscall.Exec(program, append([]string{program, "kubectl"}, args...), os.Environ())
	return fmt.Errorf("running %s: %w", program, err)
}
