package main

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
)

// writes are the API server's requests that change something, leases and
// events aside; where resources are named, only those of these.
func (f *fleet) writes(ctx context.Context, resources ...string) int {
	data, err := f.client.RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return -1
	}
	total := 0
	for line := range strings.Lines(string(data)) {
		if !strings.HasPrefix(line, "apiserver_request_total{") || strings.Contains(line, `resource="leases"`) || strings.Contains(line, `resource="events"`) ||
			!writing(line) || !of(line, resources) {
			continue
		}
		var n float64
		_, _ = fmt.Sscan(line[strings.LastIndex(line, " ")+1:], &n)
		total += int(n)
	}
	return total
}

func writing(line string) bool {
	for _, verb := range []string{"POST", "PUT", "PATCH", "APPLY", "DELETE"} {
		if strings.Contains(line, `verb="`+verb+`"`) {
			return true
		}
	}
	return false
}

// of says whether the request was of one of the resources; none are all. To
// ask for a ServiceAccount's token changes nothing of it, and what is refused
// changes nothing at all.
func of(line string, resources []string) bool {
	if len(resources) > 0 && (strings.Contains(line, `subresource="token"`) || !strings.Contains(line, `code="2`)) {
		return false
	}
	for _, r := range resources {
		if strings.Contains(line, `resource="`+r+`"`) {
			return true
		}
	}
	return len(resources) == 0
}

// readiness knows which objects are ready, by a watch.
type readiness struct {
	ready atomic.Int64
}

func watchReadiness(ctx context.Context, client dynamic.ResourceInterface, isReady func(*unstructured.Unstructured) bool) (*readiness, error) {
	w, err := client.Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	r := &readiness{}
	go func() {
		names := map[string]bool{}
		for err == nil {
			for e := range w.ResultChan() {
				if u, ok := e.Object.(*unstructured.Unstructured); ok && isReady(u) {
					names[u.GetName()] = true
					r.ready.Store(int64(len(names)))
				}
			}
			w.Stop()
			// A watch can end; a new one begins with all that there is.
			w, err = client.Watch(ctx, metav1.ListOptions{})
		}
	}()
	return r, nil
}

// all waits until n are ready.
func (r *readiness) all(ctx context.Context, n int) (time.Time, error) {
	deadline := time.Now().Add(40 * time.Minute)
	for r.ready.Load() < int64(n) {
		if ctx.Err() != nil || time.Now().After(deadline) {
			return time.Time{}, fmt.Errorf("%d of %d are ready", r.ready.Load(), n)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return time.Now(), nil
}

func isReady(u *unstructured.Unstructured) bool {
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, c := range conditions {
		if m, ok := c.(map[string]any); ok && m["type"] == "Ready" {
			return m["status"] == "True"
		}
	}
	return false
}
