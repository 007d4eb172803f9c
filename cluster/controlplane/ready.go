package controlplane

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	"k8s.io/component-base/version"

	"github.com/fairway-cd/fairway/cluster/pki"
)

const readyPollInterval = 50 * time.Millisecond

var everything = labels.Everything()

// Ready is the line that a control plane prints, as JSON, when it serves.
type Ready struct {
	PID        int      `json:"pid"`
	Version    string   `json:"version"`
	Server     string   `json:"server"`
	Kubeconfig string   `json:"kubeconfig"`
	CA         string   `json:"ca"`
	Listen     []string `json:"listen"`
	// ElapsedMillis is the time from the process's start to here.
	ElapsedMillis int64 `json:"elapsedMillis"`
}

func (p *plane) report() error {
	if err := p.writeReady(p.options.ReadyFile); err != nil {
		return err
	}
	line, err := p.readyLine()
	if err != nil {
		return err
	}
	// Whoever started this may have closed the pipe; that is their affair.
	_, _ = os.Stdout.Write(line)
	return nil
}

// writeReady writes the line to a file, where one is wanted.
func (p *plane) writeReady(file string) error {
	if file == "" {
		return nil
	}
	line, err := p.readyLine()
	if err != nil {
		return err
	}
	return pki.WriteFile(file, line, 0o600)
}

func (p *plane) readyLine() ([]byte, error) {
	line, err := json.Marshal(Ready{
		PID:           os.Getpid(),
		Version:       version.Get().GitVersion,
		Server:        p.server(),
		Kubeconfig:    p.credentials.adminKubeconfig(),
		CA:            p.credentials.ca.CertFile(),
		Listen:        p.listener.addresses(),
		ElapsedMillis: time.Since(p.started).Milliseconds(),
	})
	if err != nil {
		return nil, fmt.Errorf("encoding the line about readiness: %w", err)
	}
	return append(line, '\n'), nil
}

// bootstrapHooks are what the API server does for others than the
// administrator before it says that it is ready: roles, priorities and fair
// queues, each of them some hundred writes. The administrator's group is
// exempt from all three.
var bootstrapHooks = []string{
	"rbac/bootstrap-roles", "scheduling/bootstrap-system-priority-classes",
	"priority-and-fairness-config-producer",
}

// waitServing returns when the administrator can work with the API server.
func waitServing(ctx context.Context, client kubernetes.Interface, server *part) error {
	return waitHealthy(ctx, client, server, bootstrapHooks...)
}

// waitReady returns when the API server says that it is ready.
func waitReady(ctx context.Context, client kubernetes.Interface, server *part) error {
	return waitHealthy(ctx, client, server)
}

func waitHealthy(ctx context.Context, client kubernetes.Interface, server *part, withoutHooks ...string) error {
	return poll(ctx, func() (bool, error) {
		if err, ended := server.ended(); ended {
			return false, err
		}
		request := client.Discovery().RESTClient().Get().AbsPath("/readyz")
		for _, hook := range withoutHooks {
			request.Param("exclude", "poststarthook/"+hook)
		}
		_, err := request.DoRaw(ctx)
		return err == nil, nil
	})
}

// waitUsable returns when a pod could be created in the default namespace and
// be bound: its service account is there, and the simulated nodes are Ready.
func waitUsable(ctx context.Context, client kubernetes.Interface, kwokNodes int, failed func() error) error {
	return poll(ctx, func() (bool, error) {
		if err := failed(); err != nil {
			return false, err
		}
		_, err := client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
		if err != nil {
			return false, nil
		}
		nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: kwokNodeLabel})
		if err != nil {
			return false, nil
		}
		ready := 0
		for _, node := range nodes.Items {
			if nodeReady(&node) {
				ready++
			}
		}
		return ready >= kwokNodes, nil
	})
}

func nodeReady(node *corev1.Node) bool {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

func poll(ctx context.Context, done func() (bool, error)) error {
	ticker := time.NewTicker(readyPollInterval)
	defer ticker.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}
