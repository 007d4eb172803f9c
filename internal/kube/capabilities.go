package kube

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/discovery"
)

// Capabilities are what a cluster can do, in the words of Helm.
type Capabilities struct {
	KubeVersion string
	APIVersions []string
}

// Discovery remembers what a cluster can do.
type Discovery struct {
	client discovery.DiscoveryInterface
	mu     sync.Mutex
	value  Capabilities
	until  time.Time
}

// NewDiscovery asks client.
func NewDiscovery(client discovery.DiscoveryInterface) *Discovery { return &Discovery{client: client} }

// discoveryTTL bounds how long a new CustomResourceDefinition is unknown to
// charts. Discovery costs the API server next to nothing (it aggregates).
const discoveryTTL = time.Minute

// Get returns what the cluster can do, at most discoveryTTL old. Groups whose
// discovery fails (an aggregated API that is down) are left out.
func (d *Discovery) Get() (Capabilities, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Now().Before(d.until) {
		return d.value, nil
	}
	version, err := d.client.ServerVersion()
	if err != nil {
		return Capabilities{}, fmt.Errorf("ask the API server for its version: %w", err)
	}
	_, lists, err := d.client.ServerGroupsAndResources()
	if err != nil && !discovery.IsGroupDiscoveryFailedError(err) {
		return Capabilities{}, fmt.Errorf("ask the API server for its kinds: %w", err)
	}
	var apis []string
	for _, list := range lists {
		apis = append(apis, list.GroupVersion)
		for _, r := range list.APIResources {
			apis = append(apis, list.GroupVersion+"/"+r.Kind)
		}
	}
	slices.Sort(apis)
	d.value = Capabilities{KubeVersion: version.GitVersion, APIVersions: slices.Compact(apis)}
	d.until = time.Now().Add(discoveryTTL)
	return d.value, nil
}
