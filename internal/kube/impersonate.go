package kube

import (
	"fmt"
	"sync"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

// ServiceAccount is the user name of a ServiceAccount.
func ServiceAccount(namespace, name string) string {
	return "system:serviceaccount:" + namespace + ":" + name
}

// impersonators are clients by user. One costs some kilobytes; the connections
// below are shared.
type impersonators struct {
	mu sync.Mutex
	by map[string]*Client
}

// maxImpersonators bounds how many are kept. Beyond that all are made anew.
const maxImpersonators = 1000

// As returns a client of the same cluster whose requests are judged by what
// the user may do; "" is the client itself. It knows the same kinds: what kinds
// there are is asked as ourselves. The API server adds the groups of a
// ServiceAccount; to impersonate takes the right to.
func (c *Client) As(user string) (*Client, error) {
	if user == "" {
		return c, nil
	}
	c.others.mu.Lock()
	defer c.others.mu.Unlock()
	if other := c.others.by[user]; other != nil {
		return other, nil
	}
	other, err := c.impersonate(user)
	if err != nil {
		return nil, fmt.Errorf("prepare to act as %s: %w", user, err)
	}
	if c.others.by == nil || len(c.others.by) >= maxImpersonators {
		c.others.by = map[string]*Client{}
	}
	c.others.by[user] = other
	return other, nil
}

func (c *Client) impersonate(user string) (*Client, error) {
	cfg := rest.CopyConfig(c.config)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: user}
	http, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, err
	}
	other := &Client{mapper: c.mapper, found: c.found, config: cfg, others: c.others, namespaces: c.namespaces}
	if other.dynamic, err = dynamic.NewForConfigAndClient(cfg, http); err != nil {
		return nil, err
	}
	other.metadata, err = metadata.NewForConfigAndClient(metadata.ConfigFor(cfg), http)
	return other, err
}
