package controller

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"sync"

	"github.com/fluxcd/pkg/apis/meta"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/fleet"
	"github.com/fairway-cd/fairway/internal/kube"
)

// kubeconfigs are the Secrets with kubeconfigs that Kustomizations and
// HelmReleases name. Each is followed for as long as somebody names it; what is
// kept is what it describes, and not its text.
type kubeconfigs struct {
	client *kube.Client
	tell   func(core.Owner)

	mu      sync.Mutex
	running context.Context // of Run; nil before
	loops   sync.WaitGroup
	by      map[kubeconfigRef]*kubeconfig
	users   map[core.Owner]kubeconfigRef
}

// kubeconfigRef is a Secret, and the key in it; "" is one of Flux' defaults.
type kubeconfigRef struct {
	secret types.NamespacedName
	key    string
}

// The keys at which Flux looks where none is named.
const (
	kubeconfigKey  = "value"
	kubeconfigKey2 = "value.yaml"
)

// secretMapping is where Secrets are, in every cluster.
var secretMapping = &apimeta.RESTMapping{
	Resource: corev1.SchemeGroupVersion.WithResource("secrets"), GroupVersionKind: corev1.SchemeGroupVersion.WithKind("Secret"), Scope: apimeta.RESTScopeNamespace,
}

// kubeconfig is a Secret that is followed.
type kubeconfig struct {
	of    *kubeconfigs
	ref   kubeconfigRef
	stop  context.CancelFunc
	users int
	// listed says that it is known whether it is there.
	listed bool
	read   *readKubeconfig // nil where it is not there
}

// readKubeconfig is what a Secret describes, or why it describes nothing.
type readKubeconfig struct {
	cluster *fleet.Cluster
	err     error
}

// kubeconfigError says that a Secret is no kubeconfig that can be used.
type kubeconfigError struct {
	secret  types.NamespacedName
	problem string
}

// HTTPStatus implements problem.Stated.
func (*kubeconfigError) HTTPStatus() int { return http.StatusUnprocessableEntity }

func (e *kubeconfigError) Error() string {
	return fmt.Sprintf("spec.kubeConfig.secretRef: Secret %s %s", e.secret, e.problem)
}

func newKubeconfigs(client *kube.Client, tell func(core.Owner)) *kubeconfigs {
	return &kubeconfigs{client: client, tell: tell, by: map[kubeconfigRef]*kubeconfig{}, users: map[core.Owner]kubeconfigRef{}}
}

// Run follows what is named until ctx ends.
func (c *kubeconfigs) Run(ctx context.Context) error {
	c.mu.Lock()
	c.running = ctx
	for _, k := range c.by {
		c.start(k)
	}
	c.mu.Unlock()
	<-ctx.Done()
	c.mu.Lock()
	c.running = nil
	c.mu.Unlock()
	c.loops.Wait()
	return nil
}

// start follows one. The mutex is held.
func (c *kubeconfigs) start(k *kubeconfig) {
	if c.running == nil {
		return
	}
	ctx, stop := context.WithCancel(c.running)
	k.stop = stop
	c.loops.Go(func() {
		defer stop()
		kube.Follow(ctx, c.client, kube.Scope{
			Mapping: secretMapping, Namespace: k.ref.secret.Namespace, Fields: "metadata.name=" + k.ref.secret.Name,
		}, k)
	})
}

// of returns the cluster of the kubeconfig that the owner names; none is the
// cluster that we run in. From now on the owner is told when the Secret
// changes. Errors: *kubeconfigError; *fleet.ConnectingError while the Secret is
// not read yet.
func (c *kubeconfigs) of(owner core.Owner, ref *meta.KubeConfigReference) (place, error) {
	if ref == nil || ref.SecretRef == nil {
		c.forget(owner)
		return home, nil
	}
	want := kubeconfigRef{types.NamespacedName{Namespace: owner.Namespace, Name: ref.SecretRef.Name}, ref.SecretRef.Key}
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.use(owner, want)
	switch {
	case !k.listed:
		return place{}, &fleet.ConnectingError{Cluster: "Secret " + want.secret.String()}
	case k.read == nil:
		return place{}, &kubeconfigError{want.secret, "is not there"}
	case k.read.err != nil:
		return place{}, &kubeconfigError{want.secret, "cannot be used: " + k.read.err.Error()}
	}
	return place{name: k.read.cluster.Name, server: k.read.cluster.Server, cluster: k.read.cluster}, nil
}

// use notes that the owner names the Secret. The mutex is held.
func (c *kubeconfigs) use(owner core.Owner, want kubeconfigRef) *kubeconfig {
	k := c.by[want]
	if before, ok := c.users[owner]; ok && before == want && k != nil {
		return k
	}
	if k == nil {
		k = &kubeconfig{of: c, ref: want}
		c.by[want] = k
		c.start(k)
	}
	c.drop(owner)
	c.users[owner] = want
	k.users++
	return k
}

// forget says that the owner names none.
func (c *kubeconfigs) forget(owner core.Owner) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(owner)
}

func (c *kubeconfigs) drop(owner core.Owner) {
	ref, ok := c.users[owner]
	if !ok {
		return
	}
	delete(c.users, owner)
	k := c.by[ref]
	if k.users--; k.users > 0 {
		return
	}
	delete(c.by, ref)
	if k.stop != nil {
		k.stop()
	}
}

var _ kube.Sink[*readKubeconfig] = (*kubeconfig)(nil)

// Project implements kube.Sink.
func (k *kubeconfig) Project(obj *unstructured.Unstructured) *readKubeconfig {
	data, _, _ := unstructured.NestedStringMap(obj.Object, "data")
	keys := []string{k.ref.key}
	if k.ref.key == "" {
		keys = []string{kubeconfigKey, kubeconfigKey2}
	}
	for _, key := range keys {
		if encoded, ok := data[key]; ok {
			text, err := base64.StdEncoding.DecodeString(encoded)
			if err != nil {
				return &readKubeconfig{err: &fleet.FieldError{Field: key, Problem: "is not base64"}}
			}
			cluster, err := fleet.FromKubeconfig(k.ref.secret.String(), text)
			return &readKubeconfig{cluster, err}
		}
	}
	return &readKubeconfig{err: &fleet.FieldError{Field: keys[0], Problem: "is not in it"}}
}

// Set implements kube.Sink.
func (k *kubeconfig) Set(_ kube.Key, p *readKubeconfig) { k.set(p) }

// Delete implements kube.Sink.
func (k *kubeconfig) Delete(kube.Key) { k.set(nil) }

// Replace implements kube.Sink.
func (k *kubeconfig) Replace(all map[kube.Key]*readKubeconfig) {
	k.set(all[kube.Key{Namespace: k.ref.secret.Namespace, Name: k.ref.secret.Name}])
}

// set notes what the Secret describes now, and tells who names it.
func (k *kubeconfig) set(p *readKubeconfig) {
	k.of.mu.Lock()
	defer k.of.mu.Unlock()
	k.read, k.listed = p, true
	for owner, ref := range k.of.users {
		if ref == k.ref {
			k.of.tell(owner)
		}
	}
}

// list are the kubeconfigs that somebody names and that have been read.
func (c *kubeconfigs) list() []kubeconfig {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []kubeconfig
	for _, k := range c.by {
		if k.listed {
			list = append(list, kubeconfig{ref: k.ref, read: k.read})
		}
	}
	return list
}
