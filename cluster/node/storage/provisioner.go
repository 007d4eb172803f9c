// Package storage gives claims of the default StorageClass a directory on the
// node that their pod was scheduled to.
//
// sig-storage-lib-external-provisioner would do the half of it, but cannot
// stand in one module with this Kubernetes without moving its dependencies.
package storage

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	storageapply "k8s.io/client-go/applyconfigurations/storage/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
)

const (
	// Class is the name of the default StorageClass.
	Class = "local"
	// provisionerName is what the class and its volumes name as their maker.
	provisionerName = "fairway-cd.io/local"

	fieldManager = "fairway-cluster"

	// The contract of external provisioners with the controller manager and the
	// scheduler: who is to serve a claim, where its pod goes, and who made a volume.
	storageProvisioner = "volume.kubernetes.io/storage-provisioner"
	selectedNode       = "volume.kubernetes.io/selected-node"
	provisionedBy      = "pv.kubernetes.io/provisioned-by"

	workers = 4
)

// Run applies the default StorageClass and serves its claims until ctx ends.
func Run(ctx context.Context, client kubernetes.Interface, nodes Nodes) error {
	if err := applyClass(ctx, client); err != nil {
		return err
	}
	events := record.NewBroadcaster(record.WithContext(ctx))
	events.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	defer events.Shutdown()

	factory := informers.NewSharedInformerFactory(client, 0)
	p := &provisioner{
		client:  client,
		nodes:   nodes,
		claims:  factory.Core().V1().PersistentVolumeClaims(),
		volumes: factory.Core().V1().PersistentVolumes(),
		classes: factory.Storage().V1().StorageClasses(),
		events:  events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: provisionerName}),
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[item](100*time.Millisecond, time.Minute)),
	}
	return p.run(ctx, factory)
}

func applyClass(ctx context.Context, client kubernetes.Interface) error {
	class := storageapply.StorageClass(Class).
		WithAnnotations(map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}).
		WithProvisioner(provisionerName).
		WithReclaimPolicy(corev1.PersistentVolumeReclaimDelete).
		// The directory is made where the pod goes, not before that is known.
		WithVolumeBindingMode(storagev1.VolumeBindingWaitForFirstConsumer)
	_, err := client.StorageV1().StorageClasses().Apply(ctx, class, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	if err != nil {
		return fmt.Errorf("applying StorageClass %s: %w", Class, err)
	}
	return nil
}
