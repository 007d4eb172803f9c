package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/fairway-cd/fairway/internal/app"
)

// globals are the options that every command has.
type globals struct {
	// Data is the directory of the instance.
	Data string
	// Kubeconfig, where set, is used in place of the instance's.
	Kubeconfig string
	// Server, where set, is an instance anywhere, by its address.
	Server string
	// dataGiven says whether Data was named on the command line.
	dataGiven func() bool
}

func newRootCommand() *cobra.Command {
	g := &globals{}
	root := &cobra.Command{
		Use:   "fairway",
		Short: "The safe channel from git push to production",
		Long: `Fairway is the safe channel from git push to production: a Git server, a
registry and a GitOps engine for Kubernetes in one program, with no Docker and
no database.

  fairway up        starts everything, with a Kubernetes of its own
  fairway status    says where it all is
  fairway app list  says what is deployed

Exit codes: 0 it worked; 1 it failed (for diff: there is a difference);
2 the command line is wrong.`,
		Version: app.Version,
		// So that "fairway --data DIR kubectl …" takes --data for itself.
		TraverseChildren: true,
		SilenceUsage:     true,
		SilenceErrors:    true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return checkFlags(cmd)
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &exitError{exitUsage, err} })
	flags := root.PersistentFlags()
	flags.StringVar(&g.Data, "data", app.DefaultData(), "directory of the instance (FAIRWAY_DATA)")
	g.dataGiven = func() bool { return flags.Changed("data") }
	flags.StringVar(&g.Kubeconfig, "kubeconfig", "", "kubeconfig of the cluster to talk to (default: the instance's, else KUBECONFIG)")
	root.AddGroup(
		&cobra.Group{ID: "instance", Title: "The instance:"},
		&cobra.Group{ID: "delivery", Title: "Delivery:"},
		&cobra.Group{ID: "store", Title: "Git and images:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("instance", newUpCommand(g), newDownCommand(g), newStatusCommand(g), newUICommand(g), newKubectlCommand(g),
		newResumeCommand(g), newBackupCommand(g), newRestoreCommand(g))
	root.AddCommand(newServeCommand(g), newControllerCommand(g), newCredentialCommand(), newDocsCommand(root), newRenderWorkerCommand(), newBuildEngineCommand())
	add("store", newRepoCommand(g), newBuildCommand(g), newImageCommand(g), newTokenCommand(g), newLoginCommand(g), newLogoutCommand(g))
	apps := newAppCommand(g.restConfig, g.api)
	g.addServerFlag(apps)
	sets := newAppSetCommand(g.restConfig, g.api)
	g.addServerFlag(sets)
	clusters := newClusterCommand(&appOptions{config: g.restConfig, api: g.api})
	g.addServerFlag(clusters)
	sources := newSourceCommand(g.api)
	g.addServerFlag(sources)
	add("delivery", apps, sets, sources, newProjCommand(g.restConfig), clusters, newSecretsCommand(g))
	return root
}

// instance opens the instance that the command line names.
func (g *globals) instance() (*app.Instance, error) { return app.OpenInstance(g.Data) }

// dataNamed says that somebody has said which instance is meant.
func (g *globals) dataNamed() bool { return g.dataGiven() || os.Getenv("FAIRWAY_DATA") != "" }

// instanceKubeconfig is the kubeconfig of the instance's cluster.
func (g *globals) instanceKubeconfig() (string, error) {
	inst, err := g.instance()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(inst.KubeconfigPath()); err != nil {
		return "", withHint(fmt.Errorf("no instance in %s has a cluster: %w", inst.Dir(), err),
			"'fairway up' makes one there; --data names another one, --kubeconfig a cluster without")
	}
	return inst.KubeconfigPath(), nil
}

// addServerFlag is for commands that need nothing of this machine.
func (g *globals) addServerFlag(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVar(&g.Server, "server", "", "address of an instance on another machine (FAIRWAY_SERVER)")
}

// remote is the address of the instance where it is not the one of the data
// directory: --server, else FAIRWAY_SERVER where no directory was named.
func (g *globals) remote() (string, error) {
	switch {
	case g.Server != "" && g.dataGiven():
		return "", usage("--server and --data name two instances")
	case g.Server != "" || g.dataGiven():
		return g.Server, nil
	default:
		return os.Getenv("FAIRWAY_SERVER"), nil
	}
}

// restConfig is how to reach the Kubernetes API: --kubeconfig, else the
// instance's where there is one on this machine and none elsewhere is meant,
// else KUBECONFIG and ~/.kube/config. Where a directory was named it is that
// instance's or none.
func (g *globals) restConfig() (*rest.Config, string, error) {
	remote, err := g.remote()
	if err != nil {
		return nil, "", err
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	switch path := g.Kubeconfig; {
	case path != "":
		rules.ExplicitPath = path
	case remote == "":
		switch path, err := g.instanceKubeconfig(); {
		case err == nil:
			rules.ExplicitPath = path
		case g.dataNamed():
			return nil, "", err
		}
	}
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil)
	cfg, err := loader.ClientConfig()
	if err != nil {
		if clientcmd.IsEmptyConfig(err) || errors.Is(err, os.ErrNotExist) {
			return nil, "", withHint(fmt.Errorf("no Kubernetes cluster to talk to: %w", err), "start one with 'fairway up', or name one with --kubeconfig")
		}
		return nil, "", fmt.Errorf("reading the kubeconfig: %w", err)
	}
	namespace, _, err := loader.Namespace()
	if err != nil {
		return nil, "", fmt.Errorf("reading the kubeconfig: %w", err)
	}
	// What is written by hand has a field manager of its own, too: what is
	// applied has "fairway".
	cfg.UserAgent = "fairway-cli/" + app.Version
	return cfg, namespace, nil
}
