package deploy

import (
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/health"
	"github.com/fairway-cd/fairway/internal/mark"
)

// Compare implements Deployer. The wanted object is what the API server's
// dry-run of an apply answers, so that defaults and webhooks make no
// difference. Its error is a *PlanError where the plan itself is not sound.
func (c *Cluster) Compare(ctx context.Context, p Plan) (*Comparison, error) {
	c, err := c.as(p.Options.As)
	if err != nil {
		return nil, err
	}
	pre, err := c.prepare(p)
	if err != nil {
		return nil, err
	}
	c.examine(ctx, pre, pre.items)
	extras := c.extras(ctx, pre)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	out := &Comparison{Warnings: pre.warnings, InSync: true, Health: core.Healthy}
	for _, it := range pre.items {
		d := c.difference(ctx, pre, it)
		if it.verdict == shared {
			out.Warnings = append(out.Warnings, sharedWarning(it, p.Owner))
		}
		out.add(d)
	}
	for _, x := range extras {
		if x.forget && x.err == nil && x.keep == "" {
			continue
		}
		out.addExtra(c, p.Owner, x)
	}
	return out, nil
}

func (out *Comparison) add(d Difference) {
	out.Differences = append(out.Differences, d)
	if d.Hook != "" {
		return // a hook that is not there is not missing
	}
	out.InSync = out.InSync && d.State == InSync
	out.Health = health.Worst(out.Health, d.Health)
}

// addExtra adds what is no longer wanted. It counts for the state, not for the
// health.
func (out *Comparison) addExtra(c *Cluster, owner core.Owner, x *extra) {
	diff := Difference{Ref: x.ref, State: Extra, Health: core.Unknown, RequiresPruning: true, Message: x.keep}
	if x.err != nil {
		diff.State, diff.Err, diff.Message = Uncompared, x.err, x.err.Error()
	}
	if x.live != nil {
		diff.Health, _ = c.health(owner, x.live)
		diff.Live = x.live
		present(&diff, mark.Ignored{})
	}
	out.Differences = append(out.Differences, diff)
	out.InSync = out.InSync && x.settings.ignoreExtraneous && x.err == nil
}

// difference says how an examined item stands.
func (c *Cluster) difference(ctx context.Context, pre *prepared, it *item) Difference {
	d := Difference{Ref: it.ref, Health: core.Missing, Message: it.note}
	if it.hook != nil {
		d.Hook = string(it.phase)
	}
	if it.live != nil {
		h, msg := c.health(pre.plan.Owner, it.live)
		d.Health = h
		if d.Message == "" {
			d.Message = msg
		}
		d.Live = it.live
	}
	switch {
	case it.err != nil:
		d.State, d.Err, d.Message, d.Health = Uncompared, it.err, it.err.Error(), core.Unknown
		d.Live = nil
		return d
	case it.verdict == known:
		d.State, d.Health, d.Message = InSync, it.seen.Health, it.seen.Message
		return d
	case it.verdict == skip, it.verdict == unchanged, it.verdict == refresh:
		d.State = InSync
		if it.live == nil {
			d.Health = core.Healthy
		}
	case it.live == nil:
		d.State = MissingLive
		d.Wanted = it.obj
	case it.verdict == shared:
		d.State = Modified
		d.Wanted = it.obj
	default:
		d.State = Modified
		d.Wanted = it.merged
		if it.remake {
			d.Wanted, d.Message = it.obj, "a field is immutable: it would be recreated"
		}
	}
	ig, err := ignoredIn(ctx, it.ignored, it.live, it.merged)
	if err != nil {
		d.State, d.Err, d.Message = Uncompared, objectError("compare", it.ref, err), err.Error()
	}
	present(&d, ig)
	return d
}

// present makes a difference fit to be shown.
func present(d *Difference, ig mark.Ignored) {
	show := func(obj *unstructured.Unstructured) *unstructured.Unstructured {
		if obj == nil {
			return nil
		}
		shown := content(obj, ig)
		if a := shown.GetAnnotations(); a[lastApplied] != "" {
			delete(a, lastApplied)
			shown.SetAnnotations(a)
		}
		return shown
	}
	d.Wanted, d.Live = show(d.Wanted), show(d.Live)
	if isSecret(d.Ref) {
		mask(d.Wanted, d.Live)
	}
}

// What stands in the place of a Secret's value. It tells whether the value
// would change, and not even its length.
const (
	maskSame   = "++++++++"
	maskBefore = "++++++++ (before)"
	maskAfter  = "++++++++ (after)"
)

// mask hides the values of a Secret in both of its forms.
func mask(wanted, live *unstructured.Unstructured) {
	fields := func(obj *unstructured.Unstructured) map[string]any {
		if obj == nil {
			return nil
		}
		// Something that is no Secret by its form is hidden as a whole.
		delete(obj.Object, "stringData")
		data, ok := obj.Object["data"].(map[string]any)
		if !ok && obj.Object["data"] != nil {
			obj.Object["data"] = maskSame
		}
		return data
	}
	w, l := fields(wanted), fields(live)
	for k, v := range w {
		other, ok := l[k]
		switch {
		case !ok:
			w[k] = maskSame
		case v == other:
			w[k], l[k] = maskSame, maskSame
		default:
			w[k], l[k] = maskAfter, maskBefore
		}
	}
	for k := range l {
		if _, ok := w[k]; !ok {
			l[k] = maskSame
		}
	}
}
