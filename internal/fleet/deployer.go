package fleet

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
	"github.com/fairway-cd/fairway/internal/kube"
)

// Compare implements deploy.Deployer.
func (f *Fleet) Compare(ctx context.Context, p deploy.Plan) (*deploy.Comparison, error) {
	var c *deploy.Comparison
	err := f.in(ctx, p.Owner, func(ctx context.Context, parts *Parts) (err error) {
		if err := f.admits(p, parts); err != nil {
			return err
		}
		if c, err = parts.Deployer.Compare(ctx, p); err == nil && parts != f.home {
			err = unanswered(c)
		}
		return err
	})
	return c, err
}

// unanswered is an error where an object of the comparison got no answer.
func unanswered(c *deploy.Comparison) error {
	for _, d := range c.Differences {
		var object *deploy.ObjectError
		if errors.As(d.Err, &object) && unreached(object) {
			return d.Err
		}
	}
	return nil
}

// Apply implements deploy.Deployer.
func (f *Fleet) Apply(ctx context.Context, p deploy.Plan) (*deploy.Outcome, error) {
	outcome := &deploy.Outcome{Inventory: p.Inventory}
	err := f.in(ctx, p.Owner, func(ctx context.Context, parts *Parts) (err error) {
		if err := f.admits(p, parts); err != nil {
			return err
		}
		outcome, err = parts.Deployer.Apply(ctx, p)
		return err
	})
	return outcome, err
}

// admits is a *ScopeError where the plan has objects that the description of
// the cluster leaves out.
func (f *Fleet) admits(p deploy.Plan, parts *Parts) error {
	c := f.Of(p.Owner)
	if c == nil || len(c.Namespaces) == 0 {
		return nil
	}
	for _, o := range p.Objects {
		gvk := o.GroupVersionKind()
		m, err := parts.Client.Mapping(gvk)
		if err != nil {
			continue // the deployer says so
		}
		ref := core.ObjectRef{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind, Namespace: o.GetNamespace(), Name: o.GetName()}
		switch {
		case !kube.Namespaced(m) && !c.ClusterScoped:
			return &ScopeError{c.String(), ref, "is of the whole cluster, and clusterResources is not set"}
		case !kube.Namespaced(m):
			continue
		}
		if ref.Namespace == "" || p.Options.ForceNamespace {
			ref.Namespace = p.Options.Namespace
		}
		if !slices.Contains(c.Namespaces, ref.Namespace) {
			return &ScopeError{c.String(), ref, "is in none of its namespaces"}
		}
	}
	return nil
}

// Delete implements deploy.Deployer.
func (f *Fleet) Delete(ctx context.Context, d deploy.Deletion) (*deploy.Outcome, error) {
	outcome := &deploy.Outcome{Inventory: d.Inventory}
	err := f.in(ctx, d.Owner, func(ctx context.Context, parts *Parts) (err error) {
		outcome, err = parts.Deployer.Delete(ctx, d)
		return err
	})
	return outcome, err
}

// Stop implements deploy.Deployer.
func (f *Fleet) Stop(ctx context.Context, owner core.Owner, log *deploy.HookLog) error {
	return f.in(ctx, owner, func(ctx context.Context, parts *Parts) error { return parts.Deployer.Stop(ctx, owner, log) })
}

// in does something in the owner's cluster, and ends it where the cluster turns
// out to be away, which the error says then.
func (f *Fleet) in(ctx context.Context, owner core.Owner, do func(context.Context, *Parts) error) error {
	b, s, err := f.at(owner)
	switch {
	case err != nil:
		return err
	case s == nil:
		return do(ctx, f.home)
	}
	inside, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	late := time.AfterFunc(slow, b.member.nudge)
	defer late.Stop()
	return b.explain(ctx, s, do(inside, s.Parts))
}

// explain says what an error from the cluster is because of: that it is away,
// or does not let us.
func (b *binding) explain(ctx context.Context, s *session, err error) error {
	var object *deploy.ObjectError
	switch {
	case err == nil, ctx.Err() != nil:
		return err
	case s.ctx.Err() != nil:
		return b.lost()
	case errors.As(err, &object) && object.Reason == deploy.Forbidden:
		return &PermissionError{b.cluster.String(), err}
	case !suspicious(err):
		return err
	}
	b.verdict(ctx, s)
	if s.ctx.Err() != nil {
		return b.lost()
	}
	return err
}

// suspicious says that somebody has got no answer.
func suspicious(err error) bool {
	var object *deploy.ObjectError
	if errors.As(err, &object) {
		return unreached(object)
	}
	return noAnswer(err)
}

// lost is the error of what the end of a session has ended.
func (b *binding) lost() error {
	if _, err := b.current(); err != nil {
		return err
	}
	return &ConnectingError{b.cluster.String()} // it is back already, which the owner is told
}

// verdict waits until the cluster was asked whether it is there: twice, where
// the first time was for naught.
func (b *binding) verdict(ctx context.Context, s *session) {
	ctx, cancel := context.WithTimeout(ctx, 2*(connectTimeout+answerTimeout)+askAgain)
	defer cancel()
	for range 2 {
		b.member.mu.Lock()
		asked := b.member.asked
		b.member.mu.Unlock()
		b.member.nudge()
		select {
		case <-ctx.Done():
			return
		case <-s.ctx.Done():
			return
		case <-asked:
		}
	}
}

// Inside is ctx for as long as the owner's cluster answers, and the parts there.
// Errors: those of Bind.
func (f *Fleet) Inside(ctx context.Context, owner core.Owner) (inside context.Context, parts *Parts, end func(), err error) {
	b, s, err := f.at(owner)
	switch {
	case err != nil:
		return nil, nil, nil, err
	case s == nil:
		return ctx, f.home, func() {}, nil
	}
	inside, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ctx, cancel)
	late := time.AfterFunc(slow, b.member.nudge)
	return inside, s.Parts, func() {
		late.Stop()
		stop()
		cancel()
	}, nil
}
