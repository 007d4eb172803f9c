package controller

import (
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/appset"
)

// rolled are the Applications as they are written: in a RollingSync the set
// says when they are synced.
func (s *setRun) rolled(wanted []*unstructured.Unstructured) []*unstructured.Unstructured {
	return wanted
}

// roll moves a RollingSync on, and returns its condition.
func (s *setRun) roll(context.Context, []appset.Change, *argo.ApplicationSetStatus) ([]argo.ApplicationSetCondition, error) {
	return nil, nil
}
