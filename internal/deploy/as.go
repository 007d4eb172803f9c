package deploy

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/kube"
)

// as is the deployer for a user, or itself for "". Whose an object is, is
// still found out as ourselves: deliveries of others need not be readable for
// somebody to be kept from taking what is theirs.
func (c *Cluster) as(user string) (*Cluster, error) {
	if user == "" {
		return c, nil
	}
	client, err := c.client.As(user)
	if err != nil {
		return nil, err
	}
	other := *c
	other.client, other.self = client, c
	return &other, nil
}

// ourselves finds out what is left of what a delivery has applied, or was
// about to: what its user may not see would be in the way of it for ever.
// Deleting it is the user's.
func (c *Cluster) ourselves() *Cluster {
	if c.self != nil {
		return c.self
	}
	return c
}

// mayRead is an error unless whom we act as may read the plan's Reads. As
// ourselves there is nothing to find out. An object that is not there is no
// secret.
func (c *Cluster) mayRead(ctx context.Context, p Plan) error {
	if p.Options.As == "" || p.Resumed || len(p.Only) > 0 {
		return nil
	}
	denied := make([]*ObjectError, len(p.Reads))
	type read struct {
		at  int
		ref core.ObjectRef
	}
	var list []read
	for i, ref := range p.Reads {
		list = append(list, read{i, ref})
	}
	each(ctx, c.concurrency, list, func(ctx context.Context, r read) {
		m, err := c.client.Mapping(r.ref.GroupVersionKind())
		if err == nil {
			_, err = c.client.In(m, r.ref.Namespace).Get(ctx, r.ref.Name, metav1.GetOptions{})
		}
		if err != nil && !apierrors.IsNotFound(err) && !kube.IsMissingKind(err) {
			denied[r.at] = objectError("read the health of", r.ref, err)
		}
	})
	var failed []*ObjectError
	for _, e := range denied {
		if e != nil {
			failed = append(failed, e)
		}
	}
	return planError(failed)
}
