package controller

import (
	"context"
	"fmt"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-cd/fairway/api/flux"
)

// noteDependencies says whom to wake this Kustomization for.
func (k *kustomizationRun) noteDependencies() {
	deps := append([]string{k.k.sourceDep()}, k.k.referenced()...)
	for _, d := range k.k.Spec.DependsOn {
		deps = append(deps, kustomDep(dependencyKey(k.key, d)))
		if d.ReadyExpr != "" {
			deps = append(deps, anyChange(kustomDep(dependencyKey(k.key, d))))
		}
	}
	k.kustoms.depends.set(k.key, deps...)
}

// checkReadyExprs refuses expressions that cannot be evaluated. The error is a
// *SpecError.
func (k *kustomizationRun) checkReadyExprs() error {
	refused := &SpecError{}
	for i, d := range k.k.Spec.DependsOn {
		k.checkReadyExpr(indexed("spec.dependsOn", i)+".readyExpr", d.ReadyExpr, refused)
	}
	return refused.orNil()
}

func dependencyKey(of types.NamespacedName, d kustomizev1.DependencyReference) types.NamespacedName {
	key := types.NamespacedName{Namespace: d.Namespace, Name: d.Name}
	if key.Namespace == "" {
		key.Namespace = of.Namespace
	}
	return key
}

// dependenciesReady is an error while another Kustomization has to come first.
// Its becoming ready wakes this one.
func (k *kustomizationRun) dependenciesReady(ctx context.Context) error {
	for _, d := range k.k.Spec.DependsOn {
		key := dependencyKey(k.key, d)
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(flux.Kustomization)
		if err := k.client.Get(ctx, key, u); err != nil {
			if apierrors.IsNotFound(err) {
				return &notReadyError{key, "is not there"}
			}
			return fmt.Errorf("get dependency %s: %w", key, err)
		}
		// Our own last write is newer than the cache may be.
		u = k.kustoms.memories.peek(key, u)
		if d.ReadyExpr != "" {
			if err := k.readyBy(d.ReadyExpr, k.object, u); err != nil {
				return err
			}
			continue
		}
		other, _ := readKustomization(u)
		ready := apimeta.FindStatusCondition(other.Status.Conditions, meta.ReadyCondition)
		if ready == nil || ready.Status != metav1.ConditionTrue || other.Status.ObservedGeneration != other.Generation {
			return &notReadyError{key, "is not ready"}
		}
		if other.sourceDep() == k.k.sourceDep() {
			a, ok := k.sourceArtifact(k.k)
			if ok && other.Status.LastAppliedRevision != a.snapshot.Revision.String() && readPin(other.Annotations).Revision == "" &&
				!k.kustoms.reads.follows(key, k.k.sourceDep(), a) {
				return &notReadyError{key, "is not at the source's revision yet"}
			}
		}
	}
	return nil
}

// notReadyError says that a dependency has to come first.
type notReadyError struct {
	key    types.NamespacedName
	reason string
}

func (e *notReadyError) Error() string { return fmt.Sprintf("dependency '%s' %s", e.key, e.reason) }
