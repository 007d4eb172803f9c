package controlplane

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// KwokTaint says when the simulated nodes refuse pods that do not tolerate
// them by name.
type KwokTaint string

const (
	// KwokTaintAuto: while a real node is registered.
	KwokTaintAuto KwokTaint = "auto"
	// KwokTaintAlways: also before the real node has registered.
	KwokTaintAlways KwokTaint = "always"
	// KwokTaintNever: pods may land on either.
	KwokTaintNever KwokTaint = "never"
)

func (t *KwokTaint) String() string { return string(*t) }
func (t *KwokTaint) Type() string   { return "auto|always|never" }

// Set reads a flag's value.
func (t *KwokTaint) Set(s string) error {
	switch v := KwokTaint(s); v {
	case KwokTaintAuto, KwokTaintAlways, KwokTaintNever:
		*t = v
		return nil
	}
	return fmt.Errorf("%q is none of auto, always, never", s)
}

const (
	// kwokNodeLabel marks the nodes that this package makes and KWOK plays.
	kwokNodeLabel = "fairway-cd.io/kwok-node"
	// kwokNodeAnnotation and its value are KWOK's convention, and its taint.
	kwokNodeAnnotation = "kwok.x-k8s.io/node"
	kwokNodeValue      = "fake"
)

// runKwokNodes keeps the Node objects of the simulated nodes as the options
// want them until ctx ends: as many as asked for, and tainted or not.
func runKwokNodes(ctx context.Context, o *Options, client kubernetes.Interface) error {
	factory := informers.NewSharedInformerFactory(client, 0)
	nodes := factory.Core().V1().Nodes()
	wake := make(chan struct{}, 1)
	poke := func(any) {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	// Updates matter as well: somebody may edit the taint. Heartbeats come
	// every few minutes only, so looking at each costs nothing.
	if _, err := nodes.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    poke,
		UpdateFunc: func(_, _ any) { poke(nil) },
		DeleteFunc: poke,
	}); err != nil {
		return fmt.Errorf("watching nodes: %w", err)
	}
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	factory.WaitForCacheSync(ctx.Done())
	poke(nil)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		}
		if err := syncKwokNodes(ctx, o, client, nodes.Lister()); err != nil && ctx.Err() == nil {
			// Most likely a conflict with KWOK's own write, whose event wakes
			// this loop again.
			klog.FromContext(ctx).Error(err, "Simulated nodes are not as they should be")
		}
	}
}

func syncKwokNodes(ctx context.Context, o *Options, client kubernetes.Interface, lister listers.NodeLister) error {
	found, err := lister.List(everything)
	if err != nil {
		return fmt.Errorf("listing nodes: %w", err)
	}
	missing := map[string]bool{}
	for i := range o.KwokNodes {
		missing[kwokNodeName(i)] = true
	}
	taint := o.taintKwokNodes(found)
	for _, node := range found {
		if !isKwokNode(node) {
			continue
		}
		if !missing[node.Name] {
			err := client.CoreV1().Nodes().Delete(ctx, node.Name, metav1.DeleteOptions{})
			if err != nil && !apierrors.IsNotFound(err) {
				return fmt.Errorf("deleting node %s: %w", node.Name, err)
			}
			continue
		}
		delete(missing, node.Name)
		want := withTaint(node.Spec.Taints, taint)
		if slices.EqualFunc(node.Spec.Taints, want, func(a, b corev1.Taint) bool { return a.MatchTaint(&b) }) {
			continue
		}
		update := node.DeepCopy()
		update.Spec.Taints = want
		if _, err := client.CoreV1().Nodes().Update(ctx, update, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("updating the taint of node %s: %w", node.Name, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		_, err := client.CoreV1().Nodes().Create(ctx, newKwokNode(name, taint), metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("creating node %s: %w", name, err)
		}
	}
	return nil
}

func (o *Options) taintKwokNodes(nodes []*corev1.Node) bool {
	switch o.KwokTaint {
	case KwokTaintAlways:
		return true
	case KwokTaintNever:
		return false
	}
	return slices.ContainsFunc(nodes, func(n *corev1.Node) bool { return !isKwokNode(n) })
}

func isKwokNode(node *corev1.Node) bool {
	_, ok := node.Labels[kwokNodeLabel]
	return ok
}

// kwokNodePrefix begins the names of simulated nodes, and of no others.
const kwokNodePrefix = "kwok-"

func kwokNodeName(i int) string { return kwokNodePrefix + strconv.Itoa(i) }

// withTaint returns the taints with ours or without, the others as they are.
func withTaint(taints []corev1.Taint, tainted bool) []corev1.Taint {
	ours := corev1.Taint{Key: kwokNodeAnnotation, Value: kwokNodeValue, Effect: corev1.TaintEffectNoSchedule}
	rest := slices.DeleteFunc(slices.Clone(taints), func(t corev1.Taint) bool { return t.MatchTaint(&ours) })
	if tainted {
		return append(rest, ours)
	}
	return rest
}

func newKwokNode(name string, tainted bool) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name:        name,
			Annotations: map[string]string{kwokNodeAnnotation: kwokNodeValue},
			Labels: map[string]string{
				kwokNodeLabel:                    "true",
				"type":                           "kwok",
				corev1.LabelHostname:             name,
				corev1.LabelOSStable:             "linux",
				corev1.LabelArchStable:           runtime.GOARCH,
				corev1.LabelNodeExcludeBalancers: "true",
			},
		},
		Spec: corev1.NodeSpec{Taints: withTaint(nil, tainted)},
	}
}
