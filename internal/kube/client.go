// Package kube reaches the API server of one cluster for objects of any kind:
// one connection, one cache of what kinds there are.
package kube

import (
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/fence"
)

// Client reads and writes objects of any kind. It is safe for concurrent use.
type Client struct {
	dynamic  dynamic.Interface
	metadata metadata.Interface
	mapper   meta.RESTMapper
	found    *Discovery
	config   *rest.Config
	// others are the clients that act as somebody else.
	others *impersonators
	// namespaces are the only ones that are listed; none is all.
	namespaces []string
}

// New returns a client for the cluster of cfg, which is not changed. Requests
// are not held back here: the API server's own priority and fairness knows
// better.
func New(cfg *rest.Config, options ...Option) (*Client, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.QPS = -1
	cfg.Wrap(fence.Guard)
	http, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("prepare the connection to the API server: %w", err)
	}
	dyn, err := dynamic.NewForConfigAndClient(cfg, http)
	if err != nil {
		return nil, fmt.Errorf("prepare the client of the API server: %w", err)
	}
	md, err := metadata.NewForConfigAndClient(metadata.ConfigFor(cfg), http)
	if err != nil {
		return nil, fmt.Errorf("prepare the client of the API server: %w", err)
	}
	// Asks the API server only for what it was not asked yet, and again where
	// there was no match.
	mapper, err := apiutil.NewDynamicRESTMapper(cfg, http)
	if err != nil {
		return nil, fmt.Errorf("prepare the discovery of kinds: %w", err)
	}
	found, err := discovery.NewDiscoveryClientForConfigAndClient(cfg, http)
	if err != nil {
		return nil, fmt.Errorf("prepare the discovery of kinds: %w", err)
	}
	c := &Client{dynamic: dyn, metadata: md, mapper: mapper, found: NewDiscovery(found), config: cfg, others: &impersonators{}}
	for _, o := range options {
		o(c)
	}
	return c, nil
}

// Capabilities are what the cluster can do, at most a minute old.
func (c *Client) Capabilities() (Capabilities, error) { return c.found.Get() }

// Mapping returns the resource of a kind. A kind that the cluster does not
// have is a *MissingKindError; it is looked for again each time.
func (c *Client) Mapping(gvk schema.GroupVersionKind) (*meta.RESTMapping, error) {
	versions := []string{gvk.Version}
	if gvk.Version == "" {
		versions = nil
	}
	m, err := c.mapper.RESTMapping(gvk.GroupKind(), versions...)
	if meta.IsNoMatchError(err) {
		return nil, &MissingKindError{Kind: gvk}
	}
	if err != nil {
		return nil, fmt.Errorf("find the resource of %s: %w", gvk.Kind, err)
	}
	return m, nil
}

// Namespaced says whether objects of a mapping's kind live in a namespace.
func Namespaced(m *meta.RESTMapping) bool { return m.Scope.Name() == meta.RESTScopeNameNamespace }

// In returns the resource of a mapping in a namespace, which is left out where
// the kind has none.
func (c *Client) In(m *meta.RESTMapping, namespace string) dynamic.ResourceInterface {
	if Namespaced(m) {
		return c.dynamic.Resource(m.Resource).Namespace(namespace)
	}
	return c.dynamic.Resource(m.Resource)
}

// Metadata returns the metadata of a mapping's objects in a namespace; "" is
// all of them.
func (c *Client) Metadata(m *meta.RESTMapping, namespace string) metadata.ResourceInterface {
	if namespace == "" {
		return c.metadata.Resource(m.Resource)
	}
	return c.metadata.Resource(m.Resource).Namespace(namespace)
}

// For returns where an object is, or would be.
func (c *Client) For(ref core.ObjectRef) (dynamic.ResourceInterface, error) {
	m, err := c.Mapping(ref.GroupVersionKind())
	if err != nil {
		return nil, err
	}
	return c.In(m, ref.Namespace), nil
}

// MissingKindError says that the cluster does not know a kind.
type MissingKindError struct{ Kind schema.GroupVersionKind }

func (e *MissingKindError) Error() string {
	return fmt.Sprintf("the cluster has no kind %s in %s", e.Kind.Kind, e.Kind.GroupVersion())
}

// Hint is for the command line.
func (e *MissingKindError) Hint() string {
	return "install the CustomResourceDefinition first (in the same delivery or an earlier one), or check apiVersion and kind"
}

// IsMissingKind says whether err is because of a kind that is not there.
func IsMissingKind(err error) bool {
	var missing *MissingKindError
	return errors.As(err, &missing)
}
