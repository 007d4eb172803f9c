package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

// workload is what the apps of a fleet are, and how they are delivered.
type workload struct {
	// name and noun are for directories and for people.
	name, noun string
	// resource is the kind of the deliveries, in namespace.
	resource  schema.GroupVersionResource
	namespace string
	delivery  func(f *fleet, i int) *unstructured.Unstructured
	isReady   func(*unstructured.Unstructured) bool
	// manifests are an app's, with NAME and VALUE; live is the kind of the
	// object that has the value.
	manifests string
	live      schema.GroupVersionResource
	// kinds are the resources that nothing but a delivery writes.
	kinds   []string
	prepare func(context.Context, *fleet) error
}

// fluxWorkload is the one that Flux publishes its figures of: an app is a
// Deployment with 0 replicas, a ServiceAccount, a Service and an Ingress, one
// Kustomization an app, all from one repository.
func fluxWorkload() workload {
	return workload{
		name: "fleet", noun: "apps",
		resource:  schema.GroupVersionResource{Group: "kustomize.toolkit.fluxcd.io", Version: "v1", Resource: "kustomizations"},
		namespace: fleetNamespace, delivery: kustomization, isReady: isReady,
		manifests: appManifests, live: schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"},
		kinds:   []string{"kustomizations", "gitrepositories", "deployments", "services", "serviceaccounts", "ingresses"},
		prepare: prepareKustomizations,
	}
}

// argoWorkload is the one that Argo CD publishes its figures of: an Application
// each for one ConfigMap of 2 KB.
func argoWorkload() workload {
	return workload{
		name: "argo", noun: "Applications",
		resource:  schema.GroupVersionResource{Group: "argoproj.io", Version: "v1alpha1", Resource: "applications"},
		namespace: "argocd", delivery: fleetApplication, isReady: isHealthy,
		manifests: configManifest(), live: schema.GroupVersionResource{Version: "v1", Resource: "configmaps"},
		kinds:   []string{"applications"},
		prepare: func(context.Context, *fleet) error { return nil },
	}
}

func appName(i int) string { return fmt.Sprintf("app-%05d", i) }

// annotationValue is what a commit changes.
const annotationValue = "example.com/value"

// writeApp writes the manifests of an app into the work tree.
func (f *fleet) writeApp(i int, value string) error {
	dir := filepath.Join(f.work, "apps", appName(i))
	if err := os.MkdirAll(dir, fs.ModePerm); err != nil {
		return err
	}
	manifest := strings.NewReplacer("NAME", appName(i), "VALUE", value).Replace(f.manifests)
	return os.WriteFile(filepath.Join(dir, "app.yaml"), []byte(manifest), 0o644)
}

const appManifests = `apiVersion: v1
kind: ServiceAccount
metadata:
  name: NAME
---
apiVersion: v1
kind: Service
metadata:
  name: NAME
spec:
  selector:
    app: NAME
  ports:
  - name: http
    port: 80
    targetPort: 8080
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: NAME
spec:
  rules:
  - host: NAME.example.com
    http:
      paths:
      - path: /
        pathType: Prefix
        backend:
          service:
            name: NAME
            port:
              name: http
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: NAME
  annotations:
    example.com/value: VALUE
spec:
  replicas: 0
  selector:
    matchLabels:
      app: NAME
  template:
    metadata:
      labels:
        app: NAME
    spec:
      serviceAccountName: NAME
      containers:
      - name: app
        image: app:v1
        ports:
        - containerPort: 8080
`

// configManifest is a ConfigMap of 2 KB.
func configManifest() string {
	return `apiVersion: v1
kind: ConfigMap
metadata:
  name: NAME
  annotations:
    example.com/value: VALUE
data:
  key: "` + strings.Repeat("0123456789abcdef", 116) + `"
`
}

func kustomization(f *fleet, i int) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
		"metadata": map[string]any{"name": appName(i), "namespace": f.namespace},
		"spec": map[string]any{
			"interval": "60m", "prune": true, "wait": true, "timeout": "5m", "targetNamespace": fleetNamespace, "path": "./apps/" + appName(i),
			"sourceRef": map[string]any{"kind": "GitRepository", "name": "fleet"},
		},
	}}
}

func fleetApplication(f *fleet, i int) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
		"metadata": map[string]any{"name": appName(i), "namespace": f.namespace},
		"spec": map[string]any{
			"project":     "default",
			"source":      map[string]any{"repoURL": f.base + "/git/fleet.git", "targetRevision": "main", "path": "apps/" + appName(i)},
			"destination": map[string]any{"server": "https://kubernetes.default.svc", "namespace": fleetNamespace},
			"syncPolicy":  map[string]any{"automated": map[string]any{"prune": true, "selfHeal": true}},
		},
	}}
}

func isHealthy(u *unstructured.Unstructured) bool {
	sync, _, _ := unstructured.NestedString(u.Object, "status", "sync", "status")
	health, _, _ := unstructured.NestedString(u.Object, "status", "health", "status")
	return sync == "Synced" && health == "Healthy"
}

var gitRepositories = schema.GroupVersionResource{Group: "source.toolkit.fluxcd.io", Version: "v1", Resource: "gitrepositories"}

// prepareKustomizations makes the GitRepository, and waits for it.
func prepareKustomizations(ctx context.Context, f *fleet) error {
	repo := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
		"metadata": map[string]any{"name": "fleet", "namespace": f.namespace},
		"spec":     map[string]any{"interval": "60m", "url": f.base + "/git/fleet.git", "ref": map[string]any{"branch": "main"}},
	}}
	grant := `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","metadata":{"name":"fleet-reads","namespace":"default"},` +
		`"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"fairway-reader"},` +
		`"subjects":[{"kind":"ServiceAccount","name":"default","namespace":"` + f.namespace + `"}]}`
	if err := os.WriteFile(filepath.Join(f.dir, "grant.json"), []byte(grant), 0o600); err != nil {
		return err
	}
	if f.pid != 0 { // a rival asks nobody who may read
		if _, err := f.fairway(ctx, "kubectl", "apply", "-f", filepath.Join(f.dir, "grant.json")); err != nil {
			return err
		}
	}
	repos := f.dynamic.Resource(gitRepositories)
	if _, err := repos.Namespace(f.namespace).Create(ctx, repo, metav1.CreateOptions{}); err != nil {
		return err
	}
	return f.eventually(ctx, "the GitRepository is ready", func() (bool, error) {
		u, err := repos.Namespace(f.namespace).Get(ctx, "fleet", metav1.GetOptions{})
		return err == nil && isReady(u), err
	})
}

// watchLive watches the metadata of the apps' objects from now on. A watch that
// the API server ends goes on where it was.
func (f *fleet) watchLive(ctx context.Context) (watch.Interface, error) {
	live := f.metadata.Resource(f.live).Namespace(fleetNamespace)
	list, err := live.List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return nil, err
	}
	return watchtools.NewRetryWatcherWithContext(ctx, list.ResourceVersion, &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) { return live.Watch(ctx, o) },
	})
}

// valueOf is an object's name, and what its commit has given it.
func valueOf(o runtime.Object) (name, value string) {
	m, err := meta.Accessor(o)
	if err != nil {
		return "", ""
	}
	return m.GetName(), m.GetAnnotations()[annotationValue]
}

// byHand is what drift makes of the value.
const byHand = "by-hand"

// drift changes an app's object by hand.
func (f *fleet) drift(ctx context.Context, name string) error {
	patch := []byte(`{"metadata":{"annotations":{"` + annotationValue + `":"` + byHand + `"}}}`)
	_, err := f.metadata.Resource(f.live).Namespace(fleetNamespace).Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "kubectl"})
	return err
}

// until is the time from began to the event for which done is true. The more
// apps there are, the longer it may take.
func (f *fleet) until(ctx context.Context, w watch.Interface, began time.Time, done func(watch.Event) bool) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience+time.Duration(f.n)*2*time.Second)
	defer cancel()
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
			return 0, fmt.Errorf("it did not come: %w", ctx.Err())
		}
	}
}
