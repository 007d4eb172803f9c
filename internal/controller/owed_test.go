package controller

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

// A commit whose reconcile failed is not forgotten because something drifts
// before it is tried again.
func TestDriftDoesNotHideACommit(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	r := h.repo("owed", map[string]string{"app/a.yaml": configMap("owed", "1")})
	h.apply(h.application("owed", "owed", "app", "owed", automated))
	defer h.delete(appObject("owed"))
	h.waitApp("owed", "to be synced", healthy)
	h.lost.Store("/owed.git")
	commit := h.push(r, map[string]string{"app/a.yaml": configMap("owed", "2")})
	h.waitApp("owed", "to have no repository", func(a *argo.Application) bool {
		return len(a.Status.Conditions) > 0 && strings.Contains(a.Status.Conditions[0].Message, "the repository cannot be read")
	})
	h.lost.Store("")
	drifted := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "owed", Name: "owed"}}
	h.delete(drifted)
	h.waitLive("v1", "ConfigMap", "owed", "owed", func(u *unstructured.Unstructured) error {
		if got, _, _ := unstructured.NestedString(u.Object, "data", "key"); got != "2" {
			return fmt.Errorf("the key is %q", got)
		}
		return nil
	})
	h.waitApp("owed", "to be at the commit", func(a *argo.Application) bool { return healthy(a) && a.Status.Sync.Revision == commit })
}
