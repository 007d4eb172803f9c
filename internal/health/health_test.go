package health

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/fairway-cd/fairway/internal/core"
)

func TestArgoCD(t *testing.T) {
	for _, c := range []struct {
		name, object string
		health       core.Health
		message      string
	}{
		{"a paused Deployment is suspended", `{apiVersion: apps/v1, kind: Deployment, spec: {paused: true}}`, core.Suspended, "Deployment is paused"},
		{"a Deployment not yet observed", `{apiVersion: apps/v1, kind: Deployment, metadata: {generation: 2}, status: {observedGeneration: 1}}`, core.Progressing, "Waiting for rollout to finish: observed deployment generation less than desired generation"},
		{"a Deployment past its deadline", `{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}, status: {conditions: [{type: Progressing, status: "False", reason: ProgressDeadlineExceeded}]}}`, core.Degraded, `Deployment "x" exceeded its progress deadline`},
		{"a Deployment with old pods", `{apiVersion: apps/v1, kind: Deployment, spec: {replicas: 1}, status: {updatedReplicas: 1, replicas: 2}}`, core.Progressing, "Waiting for rollout to finish: 1 old replicas are pending termination..."},
		{"a Deployment that is up", `{apiVersion: apps/v1, kind: Deployment, spec: {replicas: 1}, status: {updatedReplicas: 1, replicas: 1, availableReplicas: 1}}`, core.Healthy, ""},
		{"a Deployment of another form", `{apiVersion: apps/v1, kind: Deployment, spec: {replicas: many}}`, core.Unknown, ""},
		{"a StatefulSet in an update", `{apiVersion: apps/v1, kind: StatefulSet, spec: {replicas: 1}, status: {observedGeneration: 1, readyReplicas: 1, updateRevision: b, currentRevision: a}}`, core.Progressing, "waiting for statefulset rolling update to complete 0 pods at revision b..."},
		{"a DaemonSet", `{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: x}, status: {desiredNumberScheduled: 2, updatedNumberScheduled: 2, numberAvailable: 1}}`, core.Progressing, `Waiting for daemon set "x" rollout to finish: 1 of 2 updated pods are available...`},
		{"a ReplicaSet without quota", `{apiVersion: apps/v1, kind: ReplicaSet, status: {conditions: [{type: ReplicaFailure, status: "True", message: no quota}]}}`, core.Degraded, "no quota"},
		{"a pod that cannot pull", `{apiVersion: v1, kind: Pod, spec: {restartPolicy: Always}, status: {phase: Pending, containerStatuses: [{state: {waiting: {reason: ImagePullBackOff, message: no image}}}]}}`, core.Degraded, "no image"},
		{"a hook's pod that cannot pull yet", `{apiVersion: v1, kind: Pod, spec: {restartPolicy: Never}, status: {phase: Pending, containerStatuses: [{state: {waiting: {reason: ImagePullBackOff}}}]}}`, core.Progressing, ""},
		{"a pod that failed", `{apiVersion: v1, kind: Pod, spec: {restartPolicy: Never}, status: {phase: Failed, containerStatuses: [{name: c, state: {terminated: {exitCode: 3}}}]}}`, core.Degraded, `container "c" failed with exit code 3`},
		{"a Job that runs", `{apiVersion: batch/v1, kind: Job, status: {active: 1}}`, core.Progressing, ""},
		{"a Job that is about to fail", `{apiVersion: batch/v1, kind: Job, status: {conditions: [{type: FailureTarget, status: "True"}]}}`, core.Progressing, ""},
		{"a Job that failed", `{apiVersion: batch/v1, kind: Job, status: {conditions: [{type: Failed, status: "True", message: too often}]}}`, core.Degraded, "too often"},
		{"a Job that is done", `{apiVersion: batch/v1, kind: Job, status: {conditions: [{type: Complete, status: "True"}]}}`, core.Healthy, ""},
		{"a lost claim", `{apiVersion: v1, kind: PersistentVolumeClaim, status: {phase: Lost}}`, core.Degraded, ""},
		{"a Service", `{apiVersion: v1, kind: Service, spec: {type: ClusterIP}}`, core.Healthy, ""},
		{"a load balancer to come", `{apiVersion: v1, kind: Service, spec: {type: LoadBalancer}}`, core.Progressing, ""},
		{"an Ingress without a load balancer", `{apiVersion: networking.k8s.io/v1, kind: Ingress}`, core.Progressing, ""},
		{"an autoscaler without metrics", `{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, status: {conditions: [{type: ScalingActive, status: "False", reason: FailedGetResourceMetric, message: none}]}}`, core.Degraded, "none"},
		{"an autoscaler that could, with metrics", `{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, status: {conditions: [{type: AbleToScale, status: "True", message: can}, {type: ScalingActive, status: "False", reason: FailedGetExternalMetric, message: none}]}}`, core.Degraded, "none"},
		{"an autoscaler", `{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, status: {conditions: [{type: AbleToScale, status: "True", message: can}]}}`, core.Healthy, "can"},
		{"an APIService", `{apiVersion: apiregistration.k8s.io/v1, kind: APIService, status: {conditions: [{type: Available, status: "False", reason: X, message: away}]}}`, core.Progressing, "X: away"},
		{"a ConfigMap", `{apiVersion: v1, kind: ConfigMap}`, core.Healthy, ""},
		{"what is being deleted", `{apiVersion: v1, kind: ConfigMap, metadata: {deletionTimestamp: "2026-01-01T00:00:00Z"}}`, core.Progressing, "Pending deletion"},
		{"a custom kind not yet observed", `{apiVersion: example.com/v1, kind: Thing, metadata: {generation: 2}, status: {observedGeneration: 1}}`, core.Progressing, ""},
		{"a custom kind that is stalled", `{apiVersion: example.com/v1, kind: Thing, status: {conditions: [{type: Stalled, status: "True", message: stuck}]}}`, core.Degraded, "stuck"},
		{"a custom kind that says nothing", `{apiVersion: example.com/v1, kind: Thing}`, core.Healthy, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			health, message := Of(core.ArgoCD, parse(t, []byte(c.object)))
			if health != c.health || c.message != "" && message != c.message {
				t.Errorf("is %s %q, want %s %q", health, message, c.health, c.message)
			}
		})
	}
}

// The dialects disagree on these, which is why there are two tables.
func TestFlux(t *testing.T) {
	for _, c := range []struct {
		name, object string
		health       core.Health
	}{
		{"an Ingress without a load balancer", `{apiVersion: networking.k8s.io/v1, kind: Ingress}`, core.Healthy},
		{"a Job that runs", `{apiVersion: batch/v1, kind: Job, status: {active: 1, startTime: "2026-01-01T00:00:00Z"}}`, core.Healthy},
		{"a custom kind that is not ready", `{apiVersion: example.com/v1, kind: Thing, status: {conditions: [{type: Ready, status: "False", message: wait}]}}`, core.Progressing},
		{"a Job that failed", `{apiVersion: batch/v1, kind: Job, status: {conditions: [{type: Failed, status: "True"}]}}`, core.Degraded},
	} {
		t.Run(c.name, func(t *testing.T) {
			if health, message := Of(core.Flux, parse(t, []byte(c.object))); health != c.health {
				t.Errorf("is %s %q, want %s", health, message, c.health)
			}
		})
	}
}

func TestWorst(t *testing.T) {
	if h := Worst(); h != core.Healthy {
		t.Errorf("nothing is %s", h)
	}
	if h := Worst(core.Progressing, core.Degraded, core.Healthy, core.Missing); h != core.Degraded {
		t.Errorf("worst is %s, want Degraded", h)
	}
}

func parse(t testing.TB, b []byte) *unstructured.Unstructured {
	t.Helper()
	j, err := yaml.YAMLToJSON(b)
	if err != nil {
		t.Fatal(err)
	}
	obj := &unstructured.Unstructured{}
	if err := obj.UnmarshalJSON(j); err != nil {
		t.Fatal(err)
	}
	return obj
}
