package shard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// The labels of the Leases. A shard's has its number, a replica's has none.
const (
	labelName  = "fairway-cd.io/shards-of"
	labelShard = "fairway-cd.io/shard"
)

// round gives a sign of life, looks at how the shards are divided, and takes
// or leaves what it takes for each replica to have its part.
func (s *Shards) round(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Duration-2*margin)
	defer cancel()
	list, err := s.leases.List(ctx, metav1.ListOptions{LabelSelector: labelName + "=" + s.opts.Name})
	if err != nil {
		return fmt.Errorf("list the Leases: %w", err)
	}
	shards := make([]*coordinationv1.Lease, s.opts.Count)
	replicas := map[string]*coordinationv1.Lease{}
	for i := range list.Items {
		l := &list.Items[i]
		if text, ok := l.Labels[labelShard]; !ok {
			replicas[ptr.Deref(l.Spec.HolderIdentity, "")] = l
		} else if n, err := strconv.Atoi(text); err == nil && n >= 0 && n < s.opts.Count {
			shards[n] = l
		}
	}
	if err := s.live(ctx, replicas[s.opts.Identity]); err != nil {
		return err
	}
	living := s.look(replicas, time.Now())
	return s.divide(ctx, shards, living)
}

// live gives a sign of life. What it was good for before, if that is over, is
// over for good.
func (s *Shards) live(ctx context.Context, lease *coordinationv1.Lease) error {
	asked := time.Now() // nobody can see the sign earlier
	var err error
	if lease == nil {
		lease = s.lease(s.opts.Name + "-replica-" + s.opts.Identity)
		lease.Spec.HolderIdentity = &s.opts.Identity
		_, err = s.leases.Create(ctx, lease, metav1.CreateOptions{})
	} else {
		lease = lease.DeepCopy()
		lease.Spec.RenewTime = ptr.To(metav1.NewMicroTime(asked))
		_, err = s.leases.Update(ctx, lease, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("renew our Lease: %w", err)
	}
	if !s.alive(time.Now()) {
		s.loseAll()
	}
	s.until.Store(deadlineAt(asked.Add(s.opts.Duration - margin)))
	return nil
}

func (s *Shards) lease(name string) *coordinationv1.Lease {
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: s.opts.Namespace, Labels: map[string]string{labelName: s.opts.Name}},
		Spec: coordinationv1.LeaseSpec{
			LeaseDurationSeconds: ptr.To(int32(s.opts.Duration / time.Second)),
			AcquireTime:          ptr.To(metav1.NowMicro()), RenewTime: ptr.To(metav1.NowMicro()),
		},
	}
}

// look notes the others' signs of life, and returns who lives, us among them,
// in order. Who has no Lease is seen as of now, once.
func (s *Shards) look(replicas map[string]*coordinationv1.Lease, now time.Time) []string {
	living := []string{s.opts.Identity}
	for identity, l := range replicas {
		if identity == s.opts.Identity || identity == "" {
			continue
		}
		if before, known := s.seen[identity]; !known || before.version != l.ResourceVersion {
			s.seen[identity] = sight{l.ResourceVersion, now}
		}
		if !s.dead(identity, now) {
			living = append(living, identity)
		}
	}
	for identity := range s.seen {
		if replicas[identity] == nil && s.seen[identity].version != "" {
			s.seen[identity] = sight{"", now}
		}
	}
	slices.Sort(living)
	return living
}

// dead says that a replica has given no sign of life for so long that it takes
// itself for dead.
func (s *Shards) dead(identity string, now time.Time) bool {
	seen, known := s.seen[identity]
	if !known {
		s.seen[identity] = sight{"", now}
		return false
	}
	return now.Sub(seen.at) >= s.opts.Duration
}

// part is how many shards are ours, of those who live.
func (s *Shards) part(living []string) int {
	n := s.opts.Count / len(living)
	if slices.Index(living, s.opts.Identity) < s.opts.Count%len(living) {
		n++
	}
	return n
}

func (s *Shards) divide(ctx context.Context, shards []*coordinationv1.Lease, living []string) error {
	part := s.part(living)
	var errs []error
	for n, l := range shards {
		holder := ""
		if l != nil {
			holder = ptr.Deref(l.Spec.HolderIdentity, "")
		}
		s.mu.Lock()
		ours, held := s.held[n] != nil, len(s.held)
		s.mu.Unlock()
		switch {
		case ours && holder != s.opts.Identity:
			s.lose(n) // somebody has written over it by hand
		case ours && held > part:
			errs = append(errs, s.leave(ctx, n, l))
		case ours || held >= part:
		case holder == "" || holder == s.opts.Identity || s.dead(holder, time.Now()):
			// Ours by its Lease, and not held: from before we were dead for a while.
			errs = append(errs, s.acquire(ctx, n, l))
		}
	}
	s.sweep(ctx, shards, living)
	return errors.Join(errs...)
}

// acquire takes a shard that nobody has any more. Somebody else may be faster.
func (s *Shards) acquire(ctx context.Context, n int, l *coordinationv1.Lease) error {
	var err error
	settle := l != nil // who had it before may still have requests on their way
	if l == nil {
		l = s.lease(fmt.Sprintf("%s-shard-%d", s.opts.Name, n))
		l.Labels[labelShard] = strconv.Itoa(n)
		l.Spec.HolderIdentity = &s.opts.Identity
		_, err = s.leases.Create(ctx, l, metav1.CreateOptions{})
	} else {
		l = l.DeepCopy()
		l.Spec.HolderIdentity = &s.opts.Identity
		l.Spec.AcquireTime, l.Spec.RenewTime = ptr.To(metav1.NowMicro()), ptr.To(metav1.NowMicro())
		l.Spec.LeaseTransitions = ptr.To(ptr.Deref(l.Spec.LeaseTransitions, 0) + 1)
		_, err = s.leases.Update(ctx, l, metav1.UpdateOptions{})
	}
	switch {
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		return nil
	case err != nil:
		return fmt.Errorf("take shard %d: %w", n, err)
	}
	s.take(n, settle)
	return nil
}

// leave hands a shard over: when nothing of it is worked on any more.
func (s *Shards) leave(ctx context.Context, n int, l *coordinationv1.Lease) error {
	t := s.lose(n)
	if t == nil || l == nil {
		return nil
	}
	done := make(chan struct{})
	go func() {
		t.work.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		// What does not end keeps the shard in our name, until we have it again.
		return fmt.Errorf("leave shard %d: %w", n, ctx.Err())
	}
	l = l.DeepCopy()
	l.Spec.HolderIdentity = nil
	if _, err := s.leases.Update(ctx, l, metav1.UpdateOptions{}); err != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("leave shard %d: %w", n, err)
	}
	return nil
}

// sweep removes the Leases of replicas that are dead and have nothing any more.
func (s *Shards) sweep(ctx context.Context, shards []*coordinationv1.Lease, living []string) {
	if living[0] != s.opts.Identity { // one is enough
		return
	}
	has := map[string]bool{}
	for _, l := range shards {
		if l != nil {
			has[ptr.Deref(l.Spec.HolderIdentity, "")] = true
		}
	}
	for identity, seen := range s.seen {
		if has[identity] || !s.dead(identity, time.Now()) {
			continue
		}
		if seen.version != "" {
			_ = s.leases.Delete(ctx, s.opts.Name+"-replica-"+identity, metav1.DeleteOptions{
				Preconditions: &metav1.Preconditions{ResourceVersion: &seen.version}})
		}
		delete(s.seen, identity)
	}
}

// resign leaves all shards, so that others need not wait.
func (s *Shards) resign() error {
	ctx, cancel := context.WithTimeout(context.Background(), s.opts.Duration-2*margin)
	defer cancel()
	var errs []error
	for n := range s.opts.Count {
		s.mu.Lock()
		held := s.held[n] != nil
		s.mu.Unlock()
		if !held {
			continue
		}
		l, err := s.leases.Get(ctx, fmt.Sprintf("%s-shard-%d", s.opts.Name, n), metav1.GetOptions{})
		if err != nil {
			s.lose(n)
			errs = append(errs, fmt.Errorf("leave shard %d: %w", n, err))
			continue
		}
		if ptr.Deref(l.Spec.HolderIdentity, "") == s.opts.Identity {
			errs = append(errs, s.leave(ctx, n, l))
		} else {
			s.lose(n)
		}
	}
	err := s.leases.Delete(ctx, s.opts.Name+"-replica-"+s.opts.Identity, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		errs = append(errs, fmt.Errorf("remove our Lease: %w", err))
	}
	if err := errors.Join(errs...); err != nil {
		s.log.Warn("shards are left to their Leases' end", "error", err)
	}
	return nil
}
