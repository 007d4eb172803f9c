package main

import (
	"fmt"
	"net"
	"os"

	"github.com/spf13/cobra"

	"github.com/fairway-cd/fairway/internal/app"
	"github.com/fairway-cd/fairway/internal/backup"
)

type restoreOptions struct {
	*globals
	identity       string
	withoutSecrets bool
	port           int
	nodes          string
	listen         []string
	paused         bool
}

func newRestoreCommand(g *globals) *cobra.Command {
	o := &restoreOptions{globals: g}
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make an instance out of a backup, and start it",
		Long: `Make a new instance out of what 'fairway backup' has written, in a directory
that has none, and start it. FILE - is the standard input. Secrets need a key
that they were encrypted to: a file of 'age-keygen', named with --identity.

The instance has the port that it had, because manifests name repositories and
images by it. With --port it has another; repositories are known by the former
one all the same, images are not.

It delivers as the instance did, also to other clusters: where that instance
still lives the two fight, and this one brings back what was. With --paused it
delivers nothing before 'fairway resume'.

A backup that is damaged, or not one, leaves nothing. A restore that was cut
off is not started as if it were whole: run it again.`,
		Example: `  fairway restore monday.fairway --identity key.txt
  fairway restore monday.fairway --identity key.txt --data ./second --port 8430 --paused`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runRestore(cmd, o, args[0])
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.identity, "identity", "", "file with the age key that opens the Secrets")
	f.BoolVar(&o.withoutSecrets, "without-secrets", false, "leave the backup's Secrets out")
	f.IntVar(&o.port, "port", 0, "port of everything (default: the one that it had)")
	f.StringVar(&o.nodes, "nodes", "", "nodes of the cluster: auto, kwok or real (default: as it was)")
	f.StringSliceVar(&o.listen, "listen", nil, "further addresses HOST:PORT to listen on (default: those that it had)")
	f.BoolVar(&o.paused, "paused", false, "deliver nothing before 'fairway resume': for a copy beside an instance that lives")
	cmd.MarkFlagsMutuallyExclusive("identity", "without-secrets")
	return cmd
}

// options reads the flags.
func (o *restoreOptions) options(cmd *cobra.Command) (app.RestoreOptions, error) {
	out := app.RestoreOptions{Port: o.port, Nodes: app.NodeMode(o.nodes), WithoutSecrets: o.withoutSecrets, Paused: o.paused}
	switch {
	case cmd.Flags().Changed("port") && (o.port < 1 || o.port > 65535):
		return out, &exitError{exitUsage, fmt.Errorf("--port %d: want 1 to 65535", o.port)}
	}
	switch out.Nodes {
	case "", app.NodesAuto, app.NodesKWOK, app.NodesReal:
	default:
		return out, &exitError{exitUsage, fmt.Errorf("--nodes %q: want auto, kwok or real", o.nodes)}
	}
	if cmd.Flags().Changed("listen") {
		out.Listen = []string{}
		for _, address := range o.listen {
			if host, port, err := net.SplitHostPort(address); err != nil || host == "" || port == "" {
				return out, &exitError{exitUsage, fmt.Errorf("--listen %q: want HOST:PORT", address)}
			}
			out.Listen = append(out.Listen, address)
		}
	}
	if o.identity == "" {
		return out, nil
	}
	keys, err := os.Open(o.identity)
	if err != nil {
		return out, fmt.Errorf("--identity: %w", err)
	}
	defer keys.Close()
	out.Identities, err = backup.ParseIdentities(keys)
	return out, err
}

func runRestore(cmd *cobra.Command, o *restoreOptions, file string) error {
	options, err := o.options(cmd)
	if err != nil {
		return err
	}
	inst, err := app.InstanceAt(o.Data)
	if err != nil {
		return err
	}
	from, err := openBackup(cmd, file)
	if err != nil {
		return err
	}
	defer from.Close()
	self, err := app.Self()
	if err != nil {
		return err
	}
	steps := newStepPrinter(cmd.ErrOrStderr())
	options.Progress = steps.step
	_, err = inst.Restore(cmd.Context(), from, options)
	if err == nil {
		_, err = inst.Start(cmd.Context(), self, steps.step)
	}
	steps.done(err)
	if err != nil {
		return err
	}
	if inst, err = o.instance(); err != nil {
		return err
	}
	status, err := inst.Status(cmd.Context())
	if err != nil {
		return err
	}
	return printStatus(cmd.OutOrStdout(), status, "")
}
