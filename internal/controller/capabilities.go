package controller

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/discovery"
)

// capabilitiesCache holds what the cluster can do, for charts that ask.
type capabilitiesCache struct {
	client discovery.DiscoveryInterface
	mu     sync.Mutex
	value  capabilities
	until  time.Time
}

// capabilitiesTTL bounds how long a new CustomResourceDefinition is unknown
// to charts. Discovery costs the API server next to nothing (it aggregates).
const capabilitiesTTL = time.Minute

// get returns them, at most capabilitiesTTL old. Groups whose discovery fails
// (an aggregated API that is down) are left out.
func (c *capabilitiesCache) get() (capabilities, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Now().Before(c.until) {
		return c.value, nil
	}
	version, err := c.client.ServerVersion()
	if err != nil {
		return capabilities{}, fmt.Errorf("ask the API server for its version: %w", err)
	}
	_, lists, err := c.client.ServerGroupsAndResources()
	if err != nil && !discovery.IsGroupDiscoveryFailedError(err) {
		return capabilities{}, fmt.Errorf("ask the API server for its kinds: %w", err)
	}
	var apis []string
	for _, list := range lists {
		apis = append(apis, list.GroupVersion)
		for _, r := range list.APIResources {
			apis = append(apis, list.GroupVersion+"/"+r.Kind)
		}
	}
	slices.Sort(apis)
	c.value = capabilities{KubeVersion: version.GitVersion, APIVersions: slices.Compact(apis)}
	c.until = time.Now().Add(capabilitiesTTL)
	return c.value, nil
}
