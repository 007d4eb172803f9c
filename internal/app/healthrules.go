package app

import (
	"context"
	"fmt"
	"log/slog"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	kubeevents "k8s.io/client-go/tools/events"

	"github.com/fairway-cd/fairway/internal/health"
	"github.com/fairway-cd/fairway/internal/identity"
)

// healthRulesName is the ConfigMap, in our namespace, with the files of rules
// that go before those that are shipped.
const healthRulesName = "health-rules"

// healthRules follows the ConfigMap of rules: what is wrong with it is said in
// an event on it, and what was right before stays in force.
type healthRules struct {
	config  *rest.Config
	owners  *health.Owners
	recheck func()
	events  kubeevents.EventRecorder
}

// Start implements manager.Runnable.
func (h *healthRules) Start(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(h.config)
	if err != nil {
		return fmt.Errorf("following the health rules: %w", err)
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(identity.SystemNamespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("metadata.name", healthRulesName).String()
		}))
	_, err = factory.Core().V1().ConfigMaps().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { h.take(ctx, obj) },
		UpdateFunc: func(_, obj any) { h.take(ctx, obj) },
		DeleteFunc: func(any) { h.take(ctx, &corev1.ConfigMap{}) },
	})
	if err != nil {
		return fmt.Errorf("following the health rules: %w", err)
	}
	factory.Start(ctx.Done())
	<-ctx.Done()
	factory.Shutdown()
	return nil
}

func (h *healthRules) take(ctx context.Context, obj any) {
	configMap, ok := obj.(*corev1.ConfigMap)
	if !ok {
		return
	}
	table, err := health.New(health.FilesOf(configMap.Data)...)
	if err != nil {
		slog.WarnContext(ctx, "the health rules are refused, and those before stay", "error", err)
		h.events.Eventf(configMap, nil, corev1.EventTypeWarning, "InvalidHealthRules", "Load", "%s", err)
		return
	}
	h.owners.Set(table)
	h.recheck()
}
