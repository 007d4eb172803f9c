package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/fairway-cd/fairway/cluster/controlplane"
)

// Exit codes of the control plane, besides 0 and 1.
const (
	exitUsage = 2
	// exitInUse: another process has the data directory.
	exitInUse = 3
)

func runControlPlane(args []string) int {
	options := controlplane.NewOptions()
	flags := pflag.NewFlagSet(args[0], pflag.ContinueOnError)
	options.AddFlags(flags)
	switch err := flags.Parse(args[1:]); {
	case errors.Is(err, pflag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(os.Stderr, "fairway-cluster control-plane:", err)
		return exitUsage
	case flags.NArg() > 0:
		fmt.Fprintf(os.Stderr, "fairway-cluster control-plane: unexpected argument %q\n", flags.Arg(0))
		return exitUsage
	}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	// A second signal ends the process at once: no data are lost by that.
	context.AfterFunc(ctx, stop)
	err := controlplane.Run(ctx, options)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "fairway-cluster control-plane:", err)
	var inUse *controlplane.InUseError
	if errors.As(err, &inUse) {
		return exitInUse
	}
	return 1
}
