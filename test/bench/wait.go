package main

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

// patience is how long anything measured may take before the run fails.
const patience = time.Minute

func wait(ctx context.Context, at <-chan time.Time, what string) (time.Time, error) {
	select {
	case t := <-at:
		return t, nil
	case <-ctx.Done():
		return time.Time{}, ctx.Err()
	case <-time.After(patience):
		return time.Time{}, fmt.Errorf("%s did not come within %s", what, patience)
	}
}

// until returns the time from began to the event for which done is true.
func until(ctx context.Context, w watch.Interface, began time.Time, done func(watch.Event) bool) (time.Duration, error) {
	deadline := time.After(patience)
	for {
		select {
		case e, ok := <-w.ResultChan():
			if !ok {
				return 0, fmt.Errorf("the watch ended")
			}
			if done(e) {
				return time.Since(began), nil
			}
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-deadline:
			return 0, fmt.Errorf("it did not come within %s", patience)
		}
	}
}

func replicas(o runtime.Object) int32 {
	d, ok := o.(*appsv1.Deployment)
	if !ok || d.Spec.Replicas == nil {
		return -1
	}
	return *d.Spec.Replicas
}

func configMap(value string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: config\ndata:\n  key: " + value + "\n"
}

const deployment = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 1
  selector:
    matchLabels:
      app: web
  template:
    metadata:
      labels:
        app: web
    spec:
      containers:
      - name: web
        image: web
`

func application(name, base, path, namespace string) string {
	return fmt.Sprintf(`apiVersion: argoproj.io/v1alpha1
kind: Application
metadata:
  name: %s
  namespace: argocd
spec:
  project: default
  source:
    repoURL: %s/git/bench.git
    targetRevision: HEAD
    path: %s
  destination:
    server: https://kubernetes.default.svc
    namespace: %s
  syncPolicy:
    automated:
      prune: true
      selfHeal: true
    syncOptions:
    - CreateNamespace=true
`, name, base, path, namespace)
}
