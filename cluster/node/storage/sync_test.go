package storage

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"
)

// A claim's maker can set every annotation of a claim, and leave out its class.
func TestSyncClaimServesItsOwnClassOnly(t *testing.T) {
	reclaim := corev1.PersistentVolumeReclaimDelete
	for class, want := range map[string]int{"": 0, "none": 0, "other": 0, Class: 1} {
		claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{
			Namespace: "a", Name: "b", UID: "c", Annotations: map[string]string{
				storageProvisioner: provisionerName, selectedNode: "n", corev1.BetaStorageClassAnnotation: class,
			},
		}}
		client := fake.NewClientset()
		factory := informers.NewSharedInformerFactory(client, 0)
		p := &provisioner{
			client: client, nodes: Nodes{Serves: func(string) bool { return true }}, events: record.NewFakeRecorder(10),
			claims: factory.Core().V1().PersistentVolumeClaims(), volumes: factory.Core().V1().PersistentVolumes(),
			classes: factory.Storage().V1().StorageClasses(),
		}
		p.claims.Informer().GetStore().Add(claim)
		for name, provisioner := range map[string]string{Class: provisionerName, "other": "example.com/other"} {
			p.classes.Informer().GetStore().Add(&storagev1.StorageClass{
				ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: provisioner, ReclaimPolicy: &reclaim,
			})
		}
		err := p.syncClaim(t.Context(), "a", "b")
		if known := class == Class || class == "other"; known != (err == nil) {
			t.Errorf("class %q: %v", class, err)
		}
		volumes, err := client.CoreV1().PersistentVolumes().List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(volumes.Items) != want || want == 1 && volumes.Items[0].Spec.StorageClassName != Class {
			t.Errorf("class %q: made %v, want %d volumes", class, volumes.Items, want)
		}
	}
}
