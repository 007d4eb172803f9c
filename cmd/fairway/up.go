package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairway-cd/fairway/internal/app"
	"github.com/fairway-cd/fairway/internal/controller"
)

type upOptions struct {
	*globals
	port       int
	listen     []string
	tlsCert    string
	tlsKey     string
	nodes      string
	kubeconfig string
	context    bool
	// syncTimeout is how long a sync may take.
	syncTimeout time.Duration
	lockdown    controller.Lockdown
	paused      bool
}

func newUpCommand(g *globals) *cobra.Command {
	return newUpCommandOf(&upOptions{globals: g})
}

func newUpCommandOf(o *upOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start the instance: cluster, Git, registry and engine",
		Long: `Start the instance in the background, and return when it is ready. What runs
already is left alone. The options are remembered for the next start.

Without --kubeconfig it starts a Kubernetes of its own: a real control plane,
and a real node where this machine allows one (Linux, root, nft), else
simulated nodes, on which pods are only reported to run.`,
		Example: `  fairway up
  fairway up --nodes kwok
  fairway up --data ./second --port 8430
  fairway up --kubeconfig ~/.kube/config`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runUp(cmd, o)
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.port, "port", 0, fmt.Sprintf("port of everything (default %d, or the next free one)", app.DefaultPort))
	f.StringSliceVar(&o.listen, "listen", nil, "further addresses HOST:PORT to listen on; with TLS where not loopback")
	f.StringVar(&o.tlsCert, "tls-cert", "", "certificate for --listen, PEM (default: generated)")
	f.StringVar(&o.tlsKey, "tls-key", "", "key for --tls-cert, PEM")
	f.StringVar(&o.nodes, "nodes", "", "nodes of the embedded cluster: auto, kwok or real (default auto)")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "use the cluster of this kubeconfig and start none")
	f.DurationVar(&o.syncTimeout, "sync-timeout", 0, "how long a sync of an Application may take, hooks, waves and retries included (default 24h; negative is for ever)")
	addLockdownFlags(f, &o.lockdown)
	f.BoolVar(&o.paused, "paused", false, "deliver nothing before 'fairway resume'")
	f.BoolVar(&o.context, "context", false, "add a context 'fairway' to your own kubeconfig")
	cmd.MarkFlagsRequiredTogether("tls-cert", "tls-key")
	return cmd
}

func runUp(cmd *cobra.Command, o *upOptions) error {
	inst, err := o.instance()
	if err != nil {
		return err
	}
	if err := o.configure(cmd, inst); err != nil {
		return err
	}
	self, err := app.Self()
	if err != nil {
		return err
	}
	steps := newStepPrinter(cmd.ErrOrStderr())
	started, err := inst.Start(cmd.Context(), self, steps.step)
	steps.done(err)
	if err != nil {
		return err
	}
	if !started {
		fmt.Fprintln(cmd.ErrOrStderr(), "fairway is up already")
	}
	// The server may have chosen what was left open.
	if inst, err = o.instance(); err != nil {
		return err
	}
	if o.context {
		if err := inst.AddContext(); err != nil {
			return err
		}
	}
	status, err := inst.Status(cmd.Context())
	if err != nil {
		return err
	}
	return printStatus(cmd.OutOrStdout(), status, "")
}

// configure lays the flags over what the instance remembers.
func (o *upOptions) configure(cmd *cobra.Command, inst *app.Instance) error {
	c := &inst.Config
	before := fmt.Sprint(*c)
	changed := cmd.Flags().Changed
	if changed("port") {
		if o.port < 1 || o.port > 65535 {
			return &exitError{exitUsage, fmt.Errorf("--port %d: want 1 to 65535", o.port)}
		}
		c.Port = o.port
	}
	if changed("sync-timeout") {
		c.SyncTimeout = o.syncTimeout.String()
	}
	if changed("paused") {
		c.Paused = o.paused
	}
	if err := layLockdown(cmd.Flags(), o.lockdown, &c.Lockdown); err != nil {
		return err
	}
	if changed("listen") {
		for _, address := range o.listen {
			if host, port, err := net.SplitHostPort(address); err != nil || host == "" || port == "" {
				return &exitError{exitUsage, fmt.Errorf("--listen %q: want HOST:PORT", address)}
			}
		}
		c.Listen = o.listen
	}
	for _, file := range []struct {
		name, value string
		kept        *string
	}{
		{"tls-cert", o.tlsCert, &c.TLSCert}, {"tls-key", o.tlsKey, &c.TLSKey}, {"kubeconfig", o.kubeconfig, &c.Kubeconfig},
	} {
		if !changed(file.name) {
			continue
		}
		path, err := remembered(file.value)
		if err != nil {
			return fmt.Errorf("--%s: %w", file.name, err)
		}
		*file.kept = path
	}
	if changed("nodes") {
		switch mode := app.NodeMode(o.nodes); mode {
		case app.NodesAuto, app.NodesKWOK, app.NodesReal:
			c.Nodes = mode
		default:
			return &exitError{exitUsage, fmt.Errorf("--nodes %q: want auto, kwok or real", o.nodes)}
		}
	}
	if before != fmt.Sprint(*c) && inst.Running() {
		return withHint(fmt.Errorf("the instance runs with other options"), "'fairway down' first")
	}
	return nil
}

// remembered is a file's path as it is kept for starts from elsewhere; "" takes
// back what was given before.
func remembered(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	f.Close()
	return filepath.Abs(path)
}

// stepPrinter shows each step with the time that it took.
type stepPrinter struct {
	w     io.Writer
	name  string
	began time.Time
	start time.Time
}

func newStepPrinter(w io.Writer) *stepPrinter { return &stepPrinter{w: w, start: time.Now()} }

func (p *stepPrinter) step(s app.Step) {
	p.finish()
	p.name, p.began = s.Name, time.Now()
	if s.Note != "" {
		fmt.Fprintf(p.w, "  … %s (%s)\n", s.Name, s.Note)
	}
}

func (p *stepPrinter) finish() {
	if p.name != "" {
		fmt.Fprintf(p.w, "  %5.1fs  %s\n", time.Since(p.began).Seconds(), p.name)
	}
	p.name = ""
}

func (p *stepPrinter) done(err error) {
	if err == nil {
		p.finish()
	}
}
