package storage

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	coreinformers "k8s.io/client-go/informers/core/v1"
	storageinformers "k8s.io/client-go/informers/storage/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
	storagehelpers "k8s.io/component-helpers/storage/volume"
	"k8s.io/klog/v2"
)

type provisioner struct {
	client  kubernetes.Interface
	nodes   Nodes
	claims  coreinformers.PersistentVolumeClaimInformer
	volumes coreinformers.PersistentVolumeInformer
	classes storageinformers.StorageClassInformer
	events  record.EventRecorder
	queue   workqueue.TypedRateLimitingInterface[item]
}

// item is a claim to be served, or a volume to be removed: that has no namespace.
type item struct{ namespace, name string }

func (p *provisioner) run(ctx context.Context, factory informers.SharedInformerFactory) error {
	enqueue := func(obj any) {
		if m, ok := obj.(metav1.Object); ok {
			p.queue.Add(item{m.GetNamespace(), m.GetName()})
		}
	}
	handler := cache.ResourceEventHandlerFuncs{AddFunc: enqueue, UpdateFunc: func(_, obj any) { enqueue(obj) }}
	for _, informer := range []cache.SharedIndexInformer{p.claims.Informer(), p.volumes.Informer()} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return fmt.Errorf("watching claims and volumes: %w", err)
		}
	}
	p.classes.Informer()
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	factory.WaitForCacheSync(ctx.Done())

	var running sync.WaitGroup
	for range workers {
		running.Go(func() { p.work(ctx) })
	}
	<-ctx.Done()
	p.queue.ShutDown()
	running.Wait()
	return nil
}

func (p *provisioner) work(ctx context.Context) {
	for {
		next, shutdown := p.queue.Get()
		if shutdown {
			return
		}
		if err := p.sync(ctx, next); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Volume not as it should be", "namespace", next.namespace, "name", next.name)
			p.queue.AddRateLimited(next)
		} else {
			p.queue.Forget(next)
		}
		p.queue.Done(next)
	}
}

func (p *provisioner) sync(ctx context.Context, i item) error {
	if i.namespace == "" {
		return p.syncVolume(ctx, i.name)
	}
	return p.syncClaim(ctx, i.namespace, i.name)
}

// syncClaim makes the volume that a claim waits for. Its name follows from the
// claim's UID, so that to do it twice makes it once.
func (p *provisioner) syncClaim(ctx context.Context, namespace, name string) error {
	claim, err := p.claims.Lister().PersistentVolumeClaims(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	node := claim.Annotations[selectedNode]
	if claim.Spec.VolumeName != "" || claim.DeletionTimestamp != nil ||
		claim.Annotations[storageProvisioner] != provisionerName || node == "" || !p.nodes.Serves(node) {
		return nil
	}
	if err := refuse(claim); err != nil {
		// Not an error of ours: a claim cannot be edited, so it is not tried again.
		p.events.Event(claim, corev1.EventTypeWarning, "ProvisioningFailed", err.Error())
		return nil
	}
	volume := "pvc-" + string(claim.UID)
	if _, err := p.volumes.Lister().Get(volume); err == nil {
		return nil
	}
	// Whoever makes a claim can set the annotations, whatever its class is.
	class, err := p.classes.Lister().Get(storagehelpers.GetPersistentVolumeClaimClass(claim))
	if err != nil {
		return fmt.Errorf("reading the claim's class: %w", err)
	}
	if class.Provisioner != provisionerName {
		return nil
	}
	if err := p.nodes.make(volume); err != nil {
		p.events.Event(claim, corev1.EventTypeWarning, "ProvisioningFailed", err.Error())
		return err
	}
	_, err = p.client.CoreV1().PersistentVolumes().Create(ctx, p.nodes.volume(volume, node, claim, class), metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating volume %s: %w", volume, err)
	}
	p.events.Eventf(claim, corev1.EventTypeNormal, "ProvisioningSucceeded", "made volume %s on node %s", volume, node)
	return nil
}

// syncVolume removes a volume of ours whose claim is gone.
func (p *provisioner) syncVolume(ctx context.Context, name string) error {
	volume, err := p.volumes.Lister().Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	node, ok := nodeOf(volume)
	if !ok || !p.nodes.Serves(node) || volume.Annotations[provisionedBy] != provisionerName ||
		volume.Status.Phase != corev1.VolumeReleased ||
		volume.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete {
		return nil
	}
	if err := p.nodes.remove(volume); err != nil {
		p.events.Event(volume, corev1.EventTypeWarning, "VolumeFailedDelete", err.Error())
		return err
	}
	err = p.client.CoreV1().PersistentVolumes().Delete(ctx, name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(volume.UID))})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("deleting volume %s: %w", name, err)
	}
	return nil
}
