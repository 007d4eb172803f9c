package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	ctrlsource "sigs.k8s.io/controller-runtime/pkg/source"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/api/flux"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/fence"
	"github.com/fairway-cd/fairway/internal/health"
	"github.com/fairway-cd/fairway/internal/kube/dense"
	"github.com/fairway-cd/fairway/internal/mark"
	"github.com/fairway-cd/fairway/internal/orphan"
)

// Setup adds the reconcilers of all dialects to mgr, and has it run the drift
// watch. Everything runs when mgr does. The CustomResourceDefinitions must be
// there (api.Install).
func Setup(mgr manager.Manager, stages Stages, opts Options) (*Engine, error) {
	if stages.Sources == nil || stages.Renderer == nil || stages.Deployer == nil || stages.Watcher == nil || stages.Fleet == nil {
		return nil, errors.New("controller: a required stage is missing")
	}
	opts.setDefaults()
	e, err := newEngine(mgr, stages, opts)
	if err != nil {
		return nil, err
	}
	if err := e.addControllers(mgr); err != nil {
		return nil, err
	}
	for _, run := range []manager.RunnableFunc{
		e.kubeconfigs.Run, e.orphans.Run, stages.Watcher.Run, e.prepareNamespace, e.apps.followRefs, e.watchDrift,
	} {
		if err := mgr.Add(run); err != nil {
			return nil, err
		}
	}
	if opts.Shards == nil {
		return e, nil
	}
	return e, mgr.Add(manager.RunnableFunc(e.followShards))
}

// newEngine makes the parts, of which nothing runs yet.
func newEngine(mgr manager.Manager, stages Stages, opts Options) (*Engine, error) {
	clientset, err := kubernetes.NewForConfig(mgr.GetConfig())
	if err != nil {
		return nil, fmt.Errorf("connect to the API server: %w", err)
	}
	stats, err := newStats(metrics.Registry)
	if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	connected, err := newConnected(metrics.Registry)
	if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	readiness, err := health.NewReadiness()
	if err != nil {
		return nil, err
	}
	cached, err := newCachedClient(mgr)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	e := &Engine{
		client: cached, reader: mgr.GetAPIReader(), events: mgr.GetEventRecorder("fairway"),
		stages: stages, opts: opts, stats: stats, connected: connected, readiness: readiness, healing: newHealing(),
	}
	e.private = newDiscreet(stages.Deployer)
	e.stages.Deployer = e.private
	e.others = &others{client: clientset, by: map[core.Dialect][]string{}, free: e.resumeDialect, taken: e.standBack}
	e.clusters = newClusterSecrets(clientset, opts.ArgoNamespace)
	e.clusters.tell(e.clustersChanged)
	stages.Fleet.Tell(e.clusterNews, e.measureClusters)
	e.kubeconfigs = newKubeconfigs(e.here(), e.kubeconfigChanged)
	e.apps, e.kustoms, e.repos = newApplications(e), newKustomizations(e), newGitRepositories(e)
	e.sets = newApplicationSets(e, clientset)
	e.helm = newHelmKinds(e)
	e.sealed = newSealedSecrets(e)
	e.orphans = orphan.New(mark.Tracking{ArgoNamespace: e.opts.ArgoNamespace}, func(o core.Owner) { e.wake(o, drifted) })
	return e, nil
}

// newCachedClient reads objects from the cache without their kinds being known
// to the scheme, so that unknown fields stay. What it writes is fenced.
func newCachedClient(mgr manager.Manager) (client.Client, error) {
	guarded := *mgr.GetHTTPClient()
	guarded.Transport = fence.Guard(guarded.Transport)
	cached, err := client.New(mgr.GetConfig(), client.Options{
		HTTPClient: &guarded, Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(),
		Cache: &client.CacheOptions{Reader: mgr.GetCache(), Unstructured: true, DisableFor: []client.Object{&corev1.Secret{}, &corev1.ConfigMap{}}},
	})
	if err != nil {
		return nil, err
	}
	return client.WithFieldOwner(cached, mark.ControllerManager), nil
}

// prepareNamespace makes the namespace of Applications, so that somebody with
// an empty cluster can create one. It tries until it succeeds.
func (e *Engine) prepareNamespace(ctx context.Context) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: e.opts.ArgoNamespace}}
	err := wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (bool, error) {
		err := e.client.Create(ctx, namespace.DeepCopy())
		if err != nil && !apierrors.IsAlreadyExists(err) {
			log.FromContext(ctx).Error(err, "making the namespace of Applications", "namespace", namespace.Name)
			return false, nil
		}
		return true, nil
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (e *Engine) addControllers(mgr manager.Manager) error {
	project := argo.GroupVersion.WithKind(argo.AppProjectKind)
	err := e.addController(mgr, "application", argo.GroupVersion.WithKind(argo.ApplicationKind), e.apps, e.apps.wake,
		watched(mgr, project, e.projectChanged))
	if err != nil {
		return err
	}
	if err := e.sets.add(mgr); err != nil {
		return err
	}
	if err := e.sealed.add(mgr); err != nil {
		return err
	}
	follow, err := e.kustoms.followReferenced(mgr.GetConfig())
	if err != nil {
		return err
	}
	if err := mgr.Add(manager.RunnableFunc(follow)); err != nil {
		return err
	}
	if err := e.addController(mgr, "gitrepository", flux.GitRepository, e.repos, e.repos.wake); err != nil {
		return err
	}
	if err := e.addController(mgr, "kustomization", flux.Kustomization, e.kustoms, e.kustoms.wake, e.clearPolicies(mgr)); err != nil {
		return err
	}
	return e.addHelm(mgr)
}

// addController adds the controller of one kind. Its first source waits until
// it is known whether the dialect is ours.
func (e *Engine) addController(mgr manager.Manager, name string, gvk schema.GroupVersionKind, r reconcile.Reconciler, w *waker, more ...ctrlsource.Source) error {
	skip := true
	c, err := controller.New(name, mgr, controller.Options{
		Reconciler: unhurried{e.shard(gvk, r, w)}, MaxConcurrentReconciles: e.opts.Workers, SkipNameValidation: &skip,
		// How long the API server was away says nothing of how long it will be.
		RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](5*time.Millisecond, awayRetry),
	})
	if err != nil {
		return fmt.Errorf("make the %s controller: %w", name, err)
	}
	ready := ctrlsource.Func(func(ctx context.Context, _ workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		return e.others.startOnce(ctx)
	})
	sources := append([]ctrlsource.Source{ready, w.source(), watched(mgr, gvk, w.changed, w.shown...)}, more...)
	for _, s := range sources {
		if err := c.Watch(s); err != nil {
			return fmt.Errorf("watch for the %s controller: %w", name, err)
		}
	}
	return nil
}

// watched tells changed of each object of the kind that is new or has changed
// in what its user may write, and shown of every change.
func watched(mgr manager.Manager, gvk schema.GroupVersionKind, changed func(types.NamespacedName), shown ...func(client.Object)) ctrlsource.Source {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(gvk)
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	return ctrlsource.Kind[client.Object](mgr.GetCache(), u, handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, _ queue) { changed(client.ObjectKeyFromObject(e.Object)) },
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, _ queue) { changed(client.ObjectKeyFromObject(e.Object)) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, _ queue) {
			for _, tell := range shown {
				tell(e.ObjectNew)
			}
			if userChanged(e.ObjectOld, e.ObjectNew) {
				changed(client.ObjectKeyFromObject(e.ObjectNew))
			}
		},
	})
}

// userChanged says whether something changed but the status. Argo CD's kinds
// have no status subresource, so the generation does not tell.
func userChanged(old, now client.Object) bool {
	a, ok1 := old.(*unstructured.Unstructured)
	b, ok2 := now.(*unstructured.Unstructured)
	if !ok1 || !ok2 {
		return true
	}
	return !apiequality.Semantic.DeepEqual(a.Object["spec"], b.Object["spec"]) ||
		!apiequality.Semantic.DeepEqual(a.GetLabels(), b.GetLabels()) ||
		!apiequality.Semantic.DeepEqual(a.Object["operation"], b.Object["operation"]) ||
		!apiequality.Semantic.DeepEqual(a.GetAnnotations(), b.GetAnnotations()) ||
		a.GetUID() != b.GetUID() || (a.GetDeletionTimestamp() == nil) != (b.GetDeletionTimestamp() == nil) ||
		a.GetKind() == argo.ApplicationKind && operationPhase(b) == argo.OperationTerminating && operationPhase(a) != argo.OperationTerminating
}

// operationPhase is that of the Application's operation. It is ours to write,
// but for one value, with which people end an operation.
func operationPhase(u *unstructured.Unstructured) argo.OperationPhase {
	phase, _, _ := unstructured.NestedString(dense.Field(u, "status"), "operationState", "phase")
	return argo.OperationPhase(phase)
}

// changed wakes the object because its spec has changed.
func (w *waker) changed(key types.NamespacedName) { w.wake(key, specChanged) }

// projectChanged wakes the Applications of a project.
func (e *Engine) projectChanged(key types.NamespacedName) {
	if key.Namespace != e.opts.ArgoNamespace {
		return
	}
	for _, app := range e.apps.byProject.of(key.Name) {
		e.apps.wake.wake(app, specChanged)
	}
}

// wakeListed wakes the objects of a kind.
func (e *Engine) wakeListed(ctx context.Context, gvk schema.GroupVersionKind, w *waker, which ...client.ListOption) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(gvk)
	if err := e.client.List(ctx, list, append(which, client.UnsafeDisableDeepCopy)...); err != nil {
		log.FromContext(ctx).Error(err, "listing objects to wake", "kind", gvk.Kind)
		return
	}
	for i := range list.Items {
		w.wake(client.ObjectKeyFromObject(&list.Items[i]), specChanged)
	}
}

// event records an event on an object. Events are for people: one that is
// lost changes nothing.
func (e *Engine) event(obj *unstructured.Unstructured, kind, reason, message string) {
	const longest = 1000 // the API's limit is 1 KiB
	if len(message) > longest {
		message = message[:longest] + "…"
	}
	e.events.Eventf(obj, nil, kind, reason, reason, "%s", message)
}
