package app

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	argoproj "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/api/flux"
)

// sweepEvery is how often mirrors of external repositories are looked through
// for those that nobody refers to.
const sweepEvery = time.Hour

// sweepMirrors removes what nobody refers to any more, until ctx ends.
func (e *engine) sweepMirrors(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		urls, err := e.repositoryURLs(ctx)
		var removed []string
		if err == nil {
			removed, err = e.st.git.Sweep(ctx, urls)
		}
		if len(removed) > 0 {
			slog.Info("removed mirrors that nobody refers to", "repositories", removed)
		}
		if err != nil && ctx.Err() == nil {
			slog.Error("removing mirrors that nobody refers to", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// repositoryURLs are those that an object refers to: to deliver from them now,
// or to roll back to what was delivered from them.
func (e *engine) repositoryURLs(ctx context.Context) ([]string, error) {
	var urls []string
	for kind, field := range map[schema.GroupVersionKind]string{
		applicationKind: "repoURL",
		argoproj.GroupVersion.WithKind(argoproj.ApplicationSetKind): "repoURL",
		flux.GitRepository: "url",
	} {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
		if err := e.mgr.GetCache().List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("listing %ss: %w", kind.Kind, err)
		}
		for i := range list.Items {
			urls = appendFields(urls, list.Items[i].Object, field)
		}
	}
	return urls, nil
}

// appendFields appends the texts in all fields of the name, wherever they are.
func appendFields(texts []string, v any, name string) []string {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if text, ok := value.(string); ok && key == name {
				texts = append(texts, text)
				continue
			}
			texts = appendFields(texts, value, name)
		}
	case []any:
		for _, value := range v {
			texts = appendFields(texts, value, name)
		}
	}
	return texts
}
