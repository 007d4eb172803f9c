package controller

import (
	"context"
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/fairway-cd/fairway/internal/kube"
)

// watchedValues selects the ConfigMaps and Secrets whose changes are to be
// seen at once, as in Flux; others are read on the interval.
const watchedValues = "reconcile.fluxcd.io/watch=Enabled"

// watchValues wakes who reads values from a ConfigMap or Secret that changes,
// until ctx ends.
func (r *helmReleases) watchValues(cfg *rest.Config) func(context.Context) error {
	return func(ctx context.Context) error {
		client, err := kube.New(cfg)
		if err != nil {
			return fmt.Errorf("watch values: %w", err)
		}
		var loops sync.WaitGroup
		for _, kind := range []string{"ConfigMap", "Secret"} {
			mapping, err := client.Mapping(schema.GroupVersionKind{Version: "v1", Kind: kind})
			if err != nil {
				return fmt.Errorf("watch values: %w", err)
			}
			loops.Go(func() {
				kube.Follow(ctx, client, kube.Scope{Mapping: mapping, Labels: watchedValues}, &valuesSink{releases: r, kind: kind})
			})
		}
		loops.Wait()
		return nil
	}
}

func valuesDep(kind string, key types.NamespacedName) string { return kind + " " + key.String() }

// valuesSink keeps the resource version of each object.
type valuesSink struct {
	releases *helmReleases
	kind     string
	versions map[kube.Key]string
}

var _ kube.Sink[string] = (*valuesSink)(nil)

// Project implements kube.Sink.
func (s *valuesSink) Project(obj *unstructured.Unstructured) string { return obj.GetResourceVersion() }

// Set implements kube.Sink.
func (s *valuesSink) Set(key kube.Key, version string) {
	if s.versions[key] != version {
		s.versions[key] = version
		s.wake(key)
	}
}

// Delete implements kube.Sink.
func (s *valuesSink) Delete(key kube.Key) {
	delete(s.versions, key)
	s.wake(key)
}

// Replace implements kube.Sink. The first list wakes nobody: all that there is
// is read when a HelmRelease is looked at for the first time.
func (s *valuesSink) Replace(all map[kube.Key]string) {
	before := s.versions
	s.versions = all
	if before == nil {
		return
	}
	for key, version := range all {
		if before[key] != version {
			s.wake(key)
		}
	}
	for key := range before {
		if _, there := all[key]; !there {
			s.wake(key)
		}
	}
}

func (s *valuesSink) wake(key kube.Key) {
	s.releases.wakeDependents(valuesDep(s.kind, types.NamespacedName{Namespace: key.Namespace, Name: key.Name}), specChanged)
}
