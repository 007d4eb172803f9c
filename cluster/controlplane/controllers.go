package controlplane

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"

	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	controlleroptions "k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	scheduleroptions "k8s.io/kubernetes/cmd/kube-scheduler/app/options"
)

// clientRate are the flags that let a component make requests as fast as this
// machine serves them. At the default of 20 a second 300 Deployments take 53 s.
var clientRate = []string{"--kube-api-qps=500", "--kube-api-burst=1000"}

// runControllerManager runs the controllers until ctx ends.
func runControllerManager(ctx context.Context, o *Options, c *credentials) error {
	options, err := controlleroptions.NewKubeControllerManagerOptions()
	if err != nil {
		return err
	}
	known, disabled, aliases := controllermanager.KnownControllers(), controllermanager.ControllersDisabledByDefault(), controllermanager.ControllerAliases()
	if err := parseFlags(options.Flags(known, disabled, aliases), controllerManagerFlags(o, c)); err != nil {
		return err
	}
	config, err := options.Config(ctx, known, disabled, aliases)
	if err != nil {
		return fmt.Errorf("completing options: %w", err)
	}
	return controllermanager.Run(ctx, config.Complete())
}

func controllerManagerFlags(o *Options, c *credentials) []string {
	return append([]string{
		"--kubeconfig=" + c.kubeconfig(controllerLeaf),
		"--leader-elect=false",
		"--secure-port=0",
		"--profiling=false",
		"--controller-shutdown-timeout=500ms",
		"--service-account-private-key-file=" + c.serviceAccountKey(),
		"--root-ca-file=" + c.ca.CertFile(),
		"--cluster-signing-cert-file=" + c.ca.CertFile(),
		"--cluster-signing-key-file=" + c.ca.KeyFile(),
		"--allocate-node-cidrs=true",
		"--cluster-cidr=" + o.ClusterCIDR,
		"--service-cluster-ip-range=" + o.ServiceCIDR,
		"--node-cidr-mask-size=" + strconv.Itoa(o.NodeCIDRMask),
		// Its default is a directory of the machine that it creates.
		"--flex-volume-plugin-dir=" + filepath.Join(c.data, "volume-plugins"),
	}, clientRate...)
}

// runScheduler runs the scheduler until ctx ends.
func runScheduler(ctx context.Context, c *credentials) error {
	options := scheduleroptions.NewOptions()
	flags := append([]string{
		"--kubeconfig=" + c.kubeconfig(schedulerLeaf),
		"--leader-elect=false",
		"--secure-port=0",
		"--profiling=false",
	}, clientRate...)
	if err := parseFlags(*options.Flags, flags); err != nil {
		return err
	}
	config, sched, err := scheduler.Setup(ctx, options)
	if err != nil {
		return fmt.Errorf("setting up: %w", err)
	}
	err = scheduler.Run(ctx, config, sched)
	if ctx.Err() != nil {
		// It has no other way to say that it was asked to stop.
		return nil
	}
	return err
}
