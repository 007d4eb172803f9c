package fleet

import (
	"k8s.io/client-go/rest"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
	"github.com/fairway-cd/fairway/internal/drift"
	"github.com/fairway-cd/fairway/internal/health"
	"github.com/fairway-cd/fairway/internal/kube"
	"github.com/fairway-cd/fairway/internal/release"
)

// Opener makes the parts for clusters that are not the home cluster: whose
// objects they are is asked there. missed may be nil.
func Opener(home *kube.Client, rules health.Owned, missed func(core.ObjectRef)) Open {
	return func(cfg *rest.Config, namespaces []string) (*Parts, error) {
		client, err := kube.New(cfg, kube.Within(namespaces...))
		if err != nil {
			return nil, err
		}
		releases, err := release.New(cfg)
		if err != nil {
			return nil, err
		}
		options := []drift.Option{drift.WithHealth(rules)}
		if missed != nil {
			options = append(options, drift.WithMissed(missed))
		}
		watcher := drift.New(client, options...)
		return &Parts{
			Client:   client,
			Deployer: deploy.New(client, deploy.WithAnswered(watcher.Observe), deploy.WithHealth(rules), deploy.WithOwners(home)),
			Watcher:  watcher,
			Releases: releases,
		}, nil
	}
}
