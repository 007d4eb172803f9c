package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/fairway-cd/fairway/internal/core"
)

// foreign are the workloads by which another controller of a dialect is
// known, by their name wherever they run.
var foreign = map[string]core.Dialect{
	"argocd-application-controller":    core.ArgoCD,
	"argocd-applicationset-controller": argoApplicationSets,
	"kustomize-controller":             core.Flux,
	"source-controller":                core.Flux,
	"helm-controller":                  core.Flux,
	"sealed-secrets-controller":        sealedSecretDialect,
	"sealed-secrets":                   sealedSecretDialect, // of its Helm chart
}

// others watches for other controllers of our dialects. Two controllers of
// one object would fight: while there is another, we stand back.
type others struct {
	client kubernetes.Interface
	// free is told of a dialect whose last other controller has gone, taken of
	// one whose first has come.
	free, taken func(context.Context, core.Dialect, string)

	once sync.Once
	err  error
	mu   sync.RWMutex
	by   map[core.Dialect][]string
}

// active says whether another controller of the dialect runs.
func (o *others) active(d core.Dialect) bool {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return len(o.by[d]) > 0
}

// list names the others of the dialect: "Deployment flux-system/kustomize-controller".
func (o *others) list(d core.Dialect) []string {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return slices.Clone(o.by[d])
}

// set notes that a workload runs or does not.
func (o *others) set(ctx context.Context, d core.Dialect, workload string, runs bool) {
	o.mu.Lock()
	before := len(o.by[d])
	o.by[d] = slices.DeleteFunc(o.by[d], func(s string) bool { return s == workload })
	if runs {
		o.by[d] = append(o.by[d], workload)
	}
	after := len(o.by[d])
	o.mu.Unlock()
	switch {
	case before == 0 && after > 0:
		o.taken(ctx, d, workload)
	case before > 0 && after == 0:
		o.free(ctx, d, workload)
	}
}

// startOnce starts, the first time, and returns when what is there now is
// known. The watch ends with the ctx of that first time.
func (o *others) startOnce(ctx context.Context) error {
	o.once.Do(func() { o.err = o.start(ctx) })
	return o.err
}

// start begins to watch, and returns when what is there now is known.
func (o *others) start(ctx context.Context) error {
	for _, name := range sortedKeys(foreign) {
		selector := func(l *metav1.ListOptions) {
			l.FieldSelector = fields.OneTermEqualSelector("metadata.name", name).String()
		}
		apps := o.client.AppsV1().RESTClient()
		for _, resource := range []string{"deployments", "statefulsets"} {
			lw := cache.NewFilteredListWatchFromClient(apps, resource, metav1.NamespaceAll, selector)
			if err := o.follow(ctx, lw, resource, o.handler(ctx, foreign[name])); err != nil {
				return fmt.Errorf("watch for other controllers (%s %s): %w", resource, name, err)
			}
		}
	}
	return nil
}

func (o *others) follow(ctx context.Context, lw *cache.ListWatch, resource string, h cache.ResourceEventHandler) error {
	opts := cache.InformerOptions{ListerWatcher: lw, ObjectType: &appsv1.Deployment{}, Handler: h}
	if resource == "statefulsets" {
		opts.ObjectType = &appsv1.StatefulSet{}
	}
	_, informer := cache.NewInformerWithOptions(opts)
	go informer.RunWithContext(ctx)
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return ctx.Err()
	}
	return nil
}

func (o *others) handler(ctx context.Context, d core.Dialect) cache.ResourceEventHandler {
	seen := func(obj any, gone bool) {
		if stale, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = stale.Obj
		}
		switch w := obj.(type) {
		case *appsv1.Deployment:
			o.set(ctx, d, "Deployment "+w.Namespace+"/"+w.Name, !gone && w.Status.ReadyReplicas > 0)
		case *appsv1.StatefulSet:
			o.set(ctx, d, "StatefulSet "+w.Namespace+"/"+w.Name, !gone && w.Status.ReadyReplicas > 0)
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { seen(obj, false) },
		UpdateFunc: func(_, obj any) { seen(obj, false) },
		DeleteFunc: func(obj any) { seen(obj, true) },
	}
}

// StandsBack says whether the dialect is left to another controller, and to
// which.
func (e *Engine) StandsBack(d core.Dialect) (string, bool) {
	who := e.others.list(d)
	return strings.Join(who, ", "), len(who) > 0
}

func (e *Engine) standBack(ctx context.Context, d core.Dialect, who string) {
	log.FromContext(ctx).Info("another controller of the dialect is active: standing back", "dialect", d, "controller", who)
	e.stats.standsBack.WithLabelValues(string(d)).Set(1)
}

func (e *Engine) resumeDialect(ctx context.Context, d core.Dialect, who string) {
	log.FromContext(ctx).Info("the other controller of the dialect has gone", "dialect", d, "controller", who)
	e.stats.standsBack.WithLabelValues(string(d)).Set(0)
	e.wakeDialect(ctx, d)
}
