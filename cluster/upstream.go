package main

import (
	"context"
	"os"

	_ "k8s.io/client-go/plugin/pkg/client/auth"
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	kubeproxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// The programs below are the bodies of their upstream main functions. They
// read os.Args themselves, so it must look as if they had been called alone.

func runKubelet(args []string) int {
	os.Args = args
	return cli.Run(kubelet.NewKubeletCommand(context.Background()))
}

func runKubeProxy(args []string) int {
	os.Args = args
	return cli.Run(kubeproxy.NewProxyCommand())
}

func runKubectl(args []string) int {
	os.Args = args
	// As upstream: verbosity must be known before the command is built, which
	// may already look for plugins and read a .kuberc.
	_, _ = logs.GlogSetter(kubectl.GetLogVerbosity(args))
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		// Prints the error and exits with kubectl's own code for it.
		kubectlutil.CheckErr(err)
	}
	return 0
}
