package main

import (
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/fairway-cd/fairway/internal/app"
	"github.com/fairway-cd/fairway/internal/controller"
)

func newControllerCommand(g *globals) *cobra.Command {
	o := app.ControllerOptions{}
	var lockdown controller.Lockdown
	cmd := &cobra.Command{
		Use:   "controller",
		Short: "Run a replica of the engine in the foreground, for a Deployment of several",
		Long: `Run a replica of the engine in the foreground: deliveries of Argo CD's and
Flux' kinds, without Git server, registry and UI. Several replicas share the
deliveries of a cluster; what one leaves behind that dies, the others have
within 15 seconds. Sources are repositories elsewhere.

The cluster is the one that the process runs in, or that of --kubeconfig. The
directory of --data is the replica's own, and can be lost.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			slog.SetDefault(slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
			o.Data, o.Kubeconfig = g.Data, g.Kubeconfig
			if err := layLockdown(cmd.Flags(), lockdown, &o.Lockdown); err != nil {
				return err
			}
			return app.RunController(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&o.Namespace, "namespace", "argocd", "the namespace of the Leases")
	cmd.Flags().IntVar(&o.Shards, "shards", 8, "how many parts the work has, the same for all replicas")
	cmd.Flags().StringVar(&o.Listen, "listen", "", "serve /healthz and /metrics at this address; off loopback with TLS")
	cmd.Flags().StringVar(&o.TLSCert, "tls-cert", "", "serve with this certificate, in PEM, in place of one of the replica's own")
	cmd.Flags().StringVar(&o.TLSKey, "tls-key", "", "the certificate's key, in PEM")
	addLockdownFlags(cmd.Flags(), &lockdown)
	cmd.MarkFlagsRequiredTogether("tls-cert", "tls-key")
	return cmd
}
