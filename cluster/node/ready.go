package node

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/fairway-cd/fairway/cluster/pki"
)

// Ready is what the ready file says, as one line of JSON.
type Ready struct {
	Name string `json:"name"`
	PID  int    `json:"pid"`
	// HostAddress is where the node and its pods reach the host.
	HostAddress string `json:"hostAddress"`
	NodeAddress string `json:"nodeAddress"`
	PodCIDR     string `json:"podCIDR"`
	// Milliseconds from the node's start.
	Milliseconds int64 `json:"milliseconds"`
}

const apiPoll = 50 * time.Millisecond

// waitAPI waits until the API server answers with the credentials given.
func waitAPI(ctx context.Context, config *rest.Config) (kubernetes.Interface, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	for {
		if err := client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error(); err == nil {
			return client, nil
		}
		select {
		case <-time.After(apiPoll):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// waitReady waits until the kubelet has reported its node ready since a time;
// what was reported before then is a node that has stopped.
func waitReady(ctx context.Context, client kubernetes.Interface, name string, since time.Time) (*corev1.Node, error) {
	only := fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	nodes := client.CoreV1().Nodes()
	source := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = only
			return nodes.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = only
			return nodes.Watch(ctx, o)
		},
	}
	event, err := watchtools.UntilWithSync(ctx, source, &corev1.Node{}, nil, func(e watch.Event) (bool, error) {
		node, ok := e.Object.(*corev1.Node)
		return ok && isReady(node, since), nil
	})
	if err != nil {
		return nil, fmt.Errorf("waiting for node %s: %w", name, err)
	}
	return event.Object.(*corev1.Node), nil
}

func isReady(node *corev1.Node, since time.Time) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			// The API's times have whole seconds.
			return c.Status == corev1.ConditionTrue && !c.LastHeartbeatTime.Time.Before(since.Truncate(time.Second))
		}
	}
	return false
}

func writeReady(file string, r Ready) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encoding the ready file: %w", err)
	}
	return pki.WriteFile(file, append(line, '\n'), 0o644)
}
