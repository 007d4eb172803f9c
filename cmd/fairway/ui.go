package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/fairway-cd/fairway/internal/identity"
)

func newUICommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "ui",
		Short: "Print a link to the UI that is logged in",
		Long: `Print a link to the UI that is logged in as the operator, for twelve hours. The
credential is in the link's fragment, which a browser does not send to servers;
still, treat the link like a password.`,
		Example: "  fairway ui\n  xdg-open \"$(fairway ui)\"",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			inst, err := g.instance()
			if err != nil {
				return err
			}
			if err := requireUp(inst); err != nil {
				return err
			}
			cfg, err := clientcmd.BuildConfigFromFlags("", inst.KubeconfigPath())
			if err != nil {
				return fmt.Errorf("reading the instance's kubeconfig: %w", err)
			}
			client, err := kubernetes.NewForConfig(cfg)
			if err != nil {
				return fmt.Errorf("connecting to the cluster: %w", err)
			}
			token, err := identity.Session(cmd.Context(), client, inst.Account())
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s/#token=%s\n", inst.URL(), token.Value)
			return nil
		},
	}
}
