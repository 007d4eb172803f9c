package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fairway "github.com/fairway-cd/fairway/api/fairway/v1alpha1"
	"github.com/fairway-cd/fairway/internal/controller/repository"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/git"
	"github.com/fairway-cd/fairway/internal/web"
)

var (
	_ web.Repositories = repositoryAPI{}
	_ repository.Store = repositoryStore{}
)

// repositoryAPI is what the HTTP API calls.
type repositoryAPI struct{ *repositories }

// Names implements web.Repositories.
func (r repositoryAPI) Names(ctx context.Context) ([]core.Name, error) { return r.store.List(ctx) }

// Create implements web.Repositories.
func (r repositoryAPI) Create(ctx context.Context, _ core.User, name core.Name) error {
	return r.create(ctx, name)
}

// Delete implements web.Repositories.
func (r repositoryAPI) Delete(ctx context.Context, name core.Name) error { return r.remove(ctx, name) }

// repositoryStore is what the Repository controller calls.
type repositoryStore struct{ *repositories }

// List implements repository.Store.
func (r repositoryStore) List(ctx context.Context) ([]core.Name, error) { return r.store.List(ctx) }

// Exists implements repository.Store.
func (r repositoryStore) Exists(ctx context.Context, name core.Name) (bool, error) {
	return r.store.Exists(ctx, name)
}

// Create implements repository.Store.
func (r repositoryStore) Create(ctx context.Context, name core.Name) error {
	err := r.store.Create(ctx, name)
	var exists *git.ExistsError
	if errors.As(err, &exists) {
		return nil
	}
	return err
}

// Delete implements repository.Store.
func (r repositoryStore) Delete(ctx context.Context, name core.Name) error {
	err := r.store.Delete(ctx, name)
	var missing *git.NotFoundError
	if errors.As(err, &missing) {
		return nil
	}
	return err
}

// SetDefaultBranch implements repository.Store.
func (r repositoryStore) SetDefaultBranch(ctx context.Context, name core.Name, branch string) error {
	return r.store.SetDefaultBranch(ctx, name, branch)
}

// Limit implements repository.Store.
func (r repositoryStore) Limit(ctx context.Context, name core.Name, limits *fairway.RepositoryLimits) error {
	var set git.Settings
	if limits != nil {
		if limits.PushSize != nil {
			set.PushBytes = limits.PushSize.Value()
		}
		if limits.FileSize != nil {
			set.FileBytes = limits.FileSize.Value()
		}
		if limits.Refs != nil {
			set.Refs = int(*limits.Refs)
		}
	}
	return r.store.Configure(ctx, name, set)
}

// repositories is the Git store as the API and the Repository controller
// want it. Objects are what is wanted: the API changes them, and the
// controller the store.
type repositories struct {
	store  *git.Store
	client client.Client
	base   string // URL of everything, without a trailing slash
}

func (r *repositories) url(name core.Name) string { return r.base + "/git/" + name.Short() + ".git" }

// Get implements web.Repositories.
func (r *repositories) Get(ctx context.Context, name core.Name) (*web.Repository, error) {
	info, err := r.store.Show(ctx, name)
	var missing *git.NotFoundError
	if errors.As(err, &missing) {
		return nil, fmt.Errorf("repository %s: %w", name.Short(), web.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	repo := &web.Repository{Name: name.String(), URL: r.url(name), DefaultBranch: info.DefaultBranch,
		Bytes: info.Size, LastPushBy: info.LastPushBy}
	if !info.LastPush.IsZero() {
		repo.LastPush = &info.LastPush
	}
	for ref, commit := range info.Refs {
		repo.Refs = append(repo.Refs, web.Ref{Name: ref, Commit: commit})
	}
	slices.SortFunc(repo.Refs, func(a, b web.Ref) int { return strings.Compare(a.Name, b.Name) })
	repo.Mirrors, err = r.InsteadOf(ctx, name)
	return repo, err
}

// create makes the object and the repository. The controller would make it
// too: this way it is there when this returns.
func (r *repositories) create(ctx context.Context, name core.Name) error {
	there, err := r.store.Exists(ctx, name)
	if err != nil {
		return err
	}
	if there {
		return fmt.Errorf("repository %s %w", name.Short(), web.ErrExists)
	}
	err = r.store.Create(ctx, name, func(ctx context.Context) error { return r.ensureObject(ctx, name) })
	var exists *git.ExistsError
	if errors.As(err, &exists) {
		return nil // the controller was faster
	}
	return err
}

// ensureObject makes the object that stands for a repository.
func (r *repositories) ensureObject(ctx context.Context, name core.Name) error {
	obj := &fairway.Repository{ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name,
		Finalizers: []string{repository.Finalizer}}}
	err := r.client.Create(ctx, obj)
	switch {
	case apierrors.IsNotFound(err):
		return &core.NoNamespaceError{Namespace: name.Namespace}
	case client.IgnoreAlreadyExists(err) != nil:
		return fmt.Errorf("making the Repository object %s: %w", name, err)
	}
	return nil
}

// remove deletes the object, and the repository with it.
func (r *repositories) remove(ctx context.Context, name core.Name) error {
	there, err := r.store.Exists(ctx, name)
	if err != nil {
		return err
	}
	obj := &fairway.Repository{ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name}}
	err = r.client.Delete(ctx, obj)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting the Repository object %s: %w", name, err)
	}
	if !there {
		return fmt.Errorf("repository %s: %w", name.Short(), web.ErrNotFound)
	}
	return repositoryStore{r}.Delete(ctx, name)
}

// Mirrors implements web.Repositories.
func (r *repositories) Mirrors(context.Context) ([]web.Mirror, error) {
	all := []web.Mirror{}
	for _, rule := range r.store.Rules().List() {
		all = append(all, web.Mirror{URL: rule.From, Repository: rule.To})
	}
	return all, nil
}

// AddMirror implements web.Repositories: where the target is a repository of
// ours that exists, its object says so too.
func (r *repositories) AddMirror(ctx context.Context, m web.Mirror) error {
	if err := r.store.Rules().Add(git.Rule{From: m.URL, To: m.Repository}); err != nil {
		return err
	}
	return r.recordInsteadOf(ctx, m.Repository)
}

// RemoveMirror implements web.Repositories.
func (r *repositories) RemoveMirror(ctx context.Context, url string) error {
	var target string
	for _, rule := range r.store.Rules().List() {
		if rule.From == url {
			target = rule.To
		}
	}
	removed, err := r.store.Rules().Remove(url)
	if err != nil {
		return err
	}
	if !removed {
		return fmt.Errorf("mirror of %s: %w", url, web.ErrNotFound)
	}
	return r.recordInsteadOf(ctx, target)
}

// recordInsteadOf writes the rules for a repository into its object, if it
// has one.
func (r *repositories) recordInsteadOf(ctx context.Context, target string) error {
	name, err := core.ParseName(target)
	if err != nil {
		return nil // another URL, not a repository of ours
	}
	urls, err := r.InsteadOf(ctx, name)
	if err != nil {
		return err
	}
	obj := &fairway.Repository{}
	key := client.ObjectKey{Namespace: name.Namespace, Name: name.Name}
	if err := r.client.Get(ctx, key, obj); err != nil {
		return client.IgnoreNotFound(err)
	}
	before := obj.DeepCopy()
	obj.Spec.InsteadOf = urls
	if err := r.client.Patch(ctx, obj, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("recording the mirror in Repository %s: %w", name, err)
	}
	return nil
}

// InsteadOf implements repository.Store.
func (r *repositories) InsteadOf(_ context.Context, name core.Name) ([]string, error) {
	var urls []string
	for _, rule := range r.store.Rules().List() {
		if to, err := core.ParseName(rule.To); err == nil && to == name {
			urls = append(urls, rule.From)
		}
	}
	return urls, nil
}

// SetInsteadOf implements repository.Store.
func (r *repositories) SetInsteadOf(ctx context.Context, name core.Name, urls []string) error {
	now, err := r.InsteadOf(ctx, name)
	if err != nil {
		return err
	}
	for _, url := range now {
		if !slices.Contains(urls, url) {
			if _, err := r.store.Rules().Remove(url); err != nil {
				return err
			}
		}
	}
	for _, url := range urls {
		if slices.Contains(now, url) {
			continue
		}
		if other := r.servedBy(url); other != "" {
			return fmt.Errorf("spec.insteadOf: %s is served from repository %s already", url, other)
		}
		if err := r.store.Rules().Add(git.Rule{From: url, To: name.String()}); err != nil {
			return fmt.Errorf("spec.insteadOf: %w", err)
		}
	}
	return nil
}

func (r *repositories) servedBy(url string) string {
	for _, rule := range r.store.Rules().List() {
		if rule.From == url {
			return rule.To
		}
	}
	return ""
}

// Describe implements repository.Store.
func (r *repositories) Describe(ctx context.Context, name core.Name) (repository.Description, error) {
	info, err := r.store.Show(ctx, name)
	if err != nil {
		return repository.Description{}, err
	}
	d := repository.Description{URL: r.url(name), DefaultBranch: info.DefaultBranch, Size: info.Size}
	for ref := range info.Refs {
		if strings.HasPrefix(ref, "refs/heads/") {
			d.Branches++
		}
	}
	if !info.LastPush.IsZero() {
		d.LastPush = &fairway.Push{Time: metav1.NewTime(info.LastPush), User: info.LastPushBy}
	}
	return d, nil
}
