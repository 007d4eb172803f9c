package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/fairway-cd/fairway/cluster/node"
	"github.com/fairway-cd/fairway/cluster/node/inside"
)

// exitUnsupported: this machine cannot run a real node; simulated ones it can.
const exitUnsupported = 4

// configFD is where a node's process 1 finds its configuration: the first file
// after the standard ones.
const configFD = 3

// runNode runs the real node, or what its first argument names.
func runNode(args []string) int {
	verb := ""
	if len(args) > 1 && args[1] != "" && args[1][0] != '-' {
		verb, args = args[1], args[1:]
	}
	var run func([]string) error
	switch verb {
	case "":
		run = startNode
	case "plan":
		run = planNode
	case "cleanup":
		run = cleanupNode
	case "check":
		run = checkNode
	case "load":
		run = loadImage
	case "init":
		run = initNode
	case "probe":
		// Started in new namespaces only to see whether they can be made.
		return 0
	default:
		fmt.Fprintf(os.Stderr, "fairway-cluster node: %q is none of plan, check, load, cleanup\n", verb)
		return exitUsage
	}
	switch err := run(args); {
	case err == nil || errors.Is(err, pflag.ErrHelp):
		return 0
	default:
		fmt.Fprintln(os.Stderr, "fairway-cluster node:", err)
		return nodeExitCode(err)
	}
}

func nodeExitCode(err error) int {
	var (
		usage       *usageError
		inUse       *node.InUseError
		unsupported *node.UnsupportedError
	)
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &inUse):
		return exitInUse
	case errors.As(err, &unsupported):
		fmt.Fprintln(os.Stderr, "hint:", unsupported.Hint)
		return exitUnsupported
	}
	return 1
}

// usageError is an argument that is not understood.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func parseNodeFlags(fs *pflag.FlagSet, args []string, arguments int) error {
	if err := fs.Parse(args[1:]); err != nil {
		return &usageError{err}
	}
	if fs.NArg() != arguments {
		return &usageError{fmt.Errorf("%d arguments, but %d wanted", fs.NArg(), arguments)}
	}
	return nil
}

func startNode(args []string) error {
	options := node.NewOptions()
	fs := pflag.NewFlagSet("node", pflag.ContinueOnError)
	options.AddFlags(fs)
	if err := parseNodeFlags(fs, args, 0); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return node.Run(ctx, options)
}

// planNode prints the addresses of a data directory.
func planNode(args []string) error {
	data, err := parseData(args)
	if err != nil {
		return err
	}
	plan, err := node.Plan(data)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]string{
		"clusterCIDR": plan.ClusterCIDR.String(),
		"serviceCIDR": plan.ServiceCIDR.String(),
		"hostAddress": plan.HostAddress().String(),
		"nodeAddress": plan.NodeAddress().String(),
		"link":        plan.LinkName(),
		"cgroup":      plan.CgroupName(),
	})
}

func cleanupNode(args []string) error {
	data, err := parseData(args)
	if err != nil {
		return err
	}
	return node.Cleanup(data)
}

func parseData(args []string) (string, error) {
	fs := pflag.NewFlagSet("node", pflag.ContinueOnError)
	data := fs.String("data", "", "the node's directory (required)")
	if err := parseNodeFlags(fs, args, 0); err != nil {
		return "", err
	}
	if *data == "" {
		return "", &usageError{errors.New("--data is required")}
	}
	return *data, nil
}

// checkNode says whether a real node can run here.
func checkNode(args []string) error {
	options := node.NewOptions()
	fs := pflag.NewFlagSet("node", pflag.ContinueOnError)
	fs.StringVar(&options.Programs, "programs", options.Programs, "directory with containerd and the others")
	if err := parseNodeFlags(fs, args, 0); err != nil {
		return err
	}
	return node.Supported(options.Programs)
}

// loadImage gives a node that runs an image from an archive.
func loadImage(args []string) error {
	options := node.NewOptions()
	fs := pflag.NewFlagSet("node", pflag.ContinueOnError)
	fs.StringVar(&options.Data, "data", "", "the node's directory (required)")
	fs.StringVar(&options.Programs, "programs", options.Programs, "directory with containerd and the others")
	if err := parseNodeFlags(fs, args, 1); err != nil {
		return err
	}
	return node.LoadImage(context.Background(), options.Data, options.Programs, fs.Arg(0))
}

// initNode is process 1 of a node's namespaces, started by startNode alone.
func initNode([]string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := inside.Run(ctx, os.NewFile(configFD, "configuration"))
	if err != nil {
		slog.Error("node ended", "error", err)
	}
	return err
}
