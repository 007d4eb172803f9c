package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Nodes says which nodes a provisioner serves, so that several can share the
// class: the real node's makes directories, another one serves simulated nodes,
// whose volumes are never mounted and need none.
type Nodes struct {
	Serves func(node string) bool
	// HostDir is where volumes are on the host; empty: no directory is made.
	// NodeDir is the same directory as the node sees it.
	HostDir string
	NodeDir string
}

// make makes a volume's directory. It may be there already.
func (n Nodes) make(volume string) error {
	if n.HostDir == "" {
		return nil
	}
	// World-writable as emptyDir is: the pod may run as any user.
	dir := filepath.Join(n.HostDir, volume)
	err := os.MkdirAll(dir, 0o777)
	if err == nil {
		err = os.Chmod(dir, 0o777) // Past the umask.
	}
	if err != nil {
		return fmt.Errorf("making the directory of volume %s: %w", volume, err)
	}
	return nil
}

// remove removes a volume's directory and all that is in it.
func (n Nodes) remove(volume *corev1.PersistentVolume) error {
	if n.HostDir == "" {
		return nil
	}
	// A PersistentVolume can be edited: only the directory of its own name is ours.
	if volume.Spec.Local == nil || volume.Spec.Local.Path != filepath.Join(n.NodeDir, volume.Name) {
		return fmt.Errorf("volume %s does not have its own directory, which is left as it is", volume.Name)
	}
	// Root keeps a symlink in the volume from leading out of it.
	root, err := os.OpenRoot(n.HostDir)
	if err != nil {
		return fmt.Errorf("opening the directory of volumes: %w", err)
	}
	defer root.Close()
	if err := root.RemoveAll(volume.Name); err != nil {
		return fmt.Errorf("removing the directory of volume %s: %w", volume.Name, err)
	}
	return nil
}

// refuse names what a directory cannot do.
func refuse(claim *corev1.PersistentVolumeClaim) error {
	if claim.Spec.Selector != nil {
		return errors.New("a claim with a selector cannot be provisioned: it asks for volumes that exist")
	}
	if claim.Spec.DataSource != nil || claim.Spec.DataSourceRef != nil {
		return errors.New("a data source is not supported: volumes begin empty")
	}
	if mode := claim.Spec.VolumeMode; mode != nil && *mode != corev1.PersistentVolumeFilesystem {
		return fmt.Errorf("volume mode %s is not supported: a directory is not a block device", *mode)
	}
	for _, mode := range claim.Spec.AccessModes {
		if mode == corev1.ReadWriteMany || mode == corev1.ReadOnlyMany {
			return fmt.Errorf("access mode %s is not supported: a directory is on one node", mode)
		}
	}
	return nil
}

func (n Nodes) volume(name, node string, claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) *corev1.PersistentVolume {
	filesystem := corev1.PersistentVolumeFilesystem
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name:        name,
			Annotations: map[string]string{provisionedBy: provisionerName},
		},
		Spec: corev1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *class.ReclaimPolicy,
			StorageClassName:              class.Name,
			AccessModes:                   claim.Spec.AccessModes,
			VolumeMode:                    &filesystem,
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage]},
			ClaimRef: &corev1.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID, ResourceVersion: claim.ResourceVersion,
			},
			PersistentVolumeSource: corev1.PersistentVolumeSource{
				Local: &corev1.LocalVolumeSource{Path: filepath.Join(n.NodeDir, name)},
			},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{
					MatchExpressions: []corev1.NodeSelectorRequirement{{
						Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node},
					}},
				}},
			}},
		},
	}
}

// nodeOf is the node that a volume of ours is bound to.
func nodeOf(volume *corev1.PersistentVolume) (string, bool) {
	affinity := volume.Spec.NodeAffinity
	if affinity == nil || affinity.Required == nil {
		return "", false
	}
	for _, term := range affinity.Required.NodeSelectorTerms {
		for _, e := range term.MatchExpressions {
			if e.Key == corev1.LabelHostname && len(e.Values) == 1 {
				return e.Values[0], true
			}
		}
	}
	return "", false
}
