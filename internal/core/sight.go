package core

import (
	"context"
	"errors"
)

// Sight is what one user may get of a resource: asked first for all
// namespaces, then once for each namespace, and for single objects only by
// Object. It remembers the answers, so it is for one request, and for one
// goroutine.
type Sight struct {
	access  Access
	user    User
	action  Action
	answers map[Action]bool
}

// NewSight is the user's sight of a resource.
func NewSight(access Access, user User, group, resource string) *Sight {
	return &Sight{access, user, Action{Verb: "get", Group: group, Resource: resource}, map[Action]bool{}}
}

// All says whether the user may get every object. Errors: *UnavailableError.
func (s *Sight) All(ctx context.Context) (bool, error) { return s.may(ctx, s.action) }

// Namespace says whether the user may get every object of a namespace. Errors:
// *UnavailableError.
func (s *Sight) Namespace(ctx context.Context, namespace string) (bool, error) {
	if all, err := s.All(ctx); all || err != nil {
		return all, err
	}
	a := s.action
	a.Namespace = namespace
	return s.may(ctx, a)
}

// Object says whether the user may get one object. Errors: *UnavailableError.
func (s *Sight) Object(ctx context.Context, namespace, name string) (bool, error) {
	if all, err := s.Namespace(ctx, namespace); all || err != nil {
		return all, err
	}
	a := s.action
	a.Namespace, a.Name = namespace, name
	return s.may(ctx, a)
}

func (s *Sight) may(ctx context.Context, a Action) (bool, error) {
	if may, known := s.answers[a]; known {
		return may, nil
	}
	err := s.access.Authorize(ctx, s.user, a)
	var forbidden *ForbiddenError
	if err != nil && !errors.As(err, &forbidden) {
		return false, err
	}
	s.answers[a] = err == nil
	return err == nil, nil
}
