package controlplane

import (
	"context"
	"fmt"
	"os"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/kwok/kustomize/stage/node/fast"
	heartbeat "sigs.k8s.io/kwok/kustomize/stage/node/heartbeat-with-lease"
	podfast "sigs.k8s.io/kwok/kustomize/stage/pod/fast"
	"sigs.k8s.io/kwok/pkg/apis/internalversion"
	"sigs.k8s.io/kwok/pkg/client/clientset/versioned"
	"sigs.k8s.io/kwok/pkg/config"
	"sigs.k8s.io/kwok/pkg/kwok/controllers"
	"sigs.k8s.io/kwok/pkg/log"
	"sigs.k8s.io/kwok/pkg/utils/client"
)

const (
	// kwokIdentity holds the leases of the simulated nodes. It is the same in
	// every run, so that a restart takes them up at once and does not wait for
	// the lease of its own predecessor to end; the lock on the data directory
	// sees to it that there is one holder.
	kwokIdentity = "fairway-kwok"
	// kwokLeaseSeconds is the kubelet's own default.
	kwokLeaseSeconds = 40
	kwokParallelism  = 8
)

// runKwok answers for the simulated nodes and their pods until ctx ends. It
// wires KWOK's controllers without KWOK's command, which reads os.Args and
// ends the process on errors.
func runKwok(ctx context.Context, o *Options, c *credentials) error {
	ctx = log.NewContext(ctx, log.NewLogger(os.Stderr, log.LevelWarn))
	stages, err := kwokStages()
	if err != nil {
		return err
	}
	conf, err := kwokClients(c.kubeconfig(kwokLeaf))
	if err != nil {
		return fmt.Errorf("making clients: %w", err)
	}
	conf.Clock = clock.RealClock{}
	conf.ManageNodesWithLabelSelector = kwokNodeLabel
	conf.CIDR = o.ClusterCIDR
	conf.LocalStages = stages
	conf.PodPlayStageParallelism = kwokParallelism
	conf.NodePlayStageParallelism = kwokParallelism
	conf.NodeLeaseParallelism = kwokParallelism
	conf.PodsOnNodeSyncParallelism = 1
	conf.EnablePodsOnNodeSyncListPager = true
	conf.NodeLeaseDurationSeconds = kwokLeaseSeconds
	conf.ID = kwokIdentity

	controller, err := controllers.NewController(conf)
	if err != nil {
		return err
	}
	if err := controller.Start(ctx); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// kwokStages are KWOK's own: a node is Ready, a pod runs as soon as it is
// bound, a Job's pod succeeds, and what is deleted goes.
func kwokStages() (map[internalversion.StageResourceRef][]*internalversion.Stage, error) {
	stages := map[internalversion.StageResourceRef][]*internalversion.Stage{}
	for _, text := range []string{
		fast.DefaultNodeInit,
		heartbeat.DefaultNodeHeartbeatWithLease,
		podfast.DefaultPodReady,
		podfast.DefaultPodComplete,
		podfast.DefaultPodDelete,
	} {
		stage, err := config.UnmarshalWithType[*internalversion.Stage](text)
		if err != nil {
			return nil, fmt.Errorf("reading KWOK's stages: %w", err)
		}
		stages[stage.Spec.ResourceRef] = append(stages[stage.Spec.ResourceRef], stage)
	}
	return stages, nil
}

func kwokClients(kubeconfig string) (controllers.Config, error) {
	var conf controllers.Config
	clients, err := client.NewClientset("", kubeconfig)
	if err != nil {
		return conf, err
	}
	restConfig, err := clients.ToRESTConfig()
	if err != nil {
		return conf, err
	}
	if conf.DynamicClient, err = clients.ToDynamicClient(); err != nil {
		return conf, err
	}
	if conf.RESTMapper, err = clients.ToRESTMapper(); err != nil {
		return conf, err
	}
	if conf.RESTClient, err = rest.RESTClientFor(restConfig); err != nil {
		return conf, err
	}
	if conf.TypedClient, err = kubernetes.NewForConfig(restConfig); err != nil {
		return conf, err
	}
	if conf.TypedKwokClient, err = versioned.NewForConfig(restConfig); err != nil {
		return conf, err
	}
	conf.ImpersonatingDynamicClient = clients.ToImpersonatingDynamicClient()
	conf.ImpersonatingTypedClient = clients.ToImpersonatingTypedClient()
	return conf, nil
}
