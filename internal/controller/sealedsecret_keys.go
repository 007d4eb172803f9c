package controller

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/fairway-cd/fairway/internal/secrets/sealed"
)

// sealingNamespace is where the sealing keys are: that of sealed-secrets' own
// controller. A key anywhere else could be anybody's.
const sealingNamespace = metav1.NamespaceSystem

// renewEvery is how often it is looked whether a new key is due.
const renewEvery = time.Hour

// sealingKeys are the keys in the cluster, as they were last read.
type sealingKeys struct {
	*Engine
	bits int

	mu   sync.Mutex
	last *sealed.Keys // nil: to be read
}

func newSealingKeys(e *Engine) *sealingKeys { return &sealingKeys{Engine: e, bits: sealed.KeyBits} }

// get returns the keys. There may be none.
func (k *sealingKeys) get(ctx context.Context) (*sealed.Keys, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.read(ctx)
}

// read reads the keys where they are not known. k.mu is held.
func (k *sealingKeys) read(ctx context.Context) (*sealed.Keys, error) {
	if k.last != nil {
		return k.last, nil
	}
	var secrets corev1.SecretList
	err := k.reader.List(ctx, &secrets, client.InNamespace(sealingNamespace), client.MatchingLabels{sealed.LabelKey: sealed.LabelActive})
	if err != nil {
		return nil, fmt.Errorf("read the sealing keys: %w", err)
	}
	keys, err := sealed.ReadKeys(secrets.Items)
	if err != nil {
		log.FromContext(ctx).Error(err, "a sealing key cannot be read and is passed over")
	}
	k.last = keys
	return keys, nil
}

// forget has the keys read again.
func (k *sealingKeys) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.last = nil
}

// errNoSealingKey says that the other controller has made no key yet.
var errNoSealingKey = errors.New("there is no sealing key, and another controller makes them")

// sure returns the keys, and makes the first one where there is none: a key
// that nobody asks for takes no time at the start.
func (k *sealingKeys) sure(ctx context.Context) (*sealed.Keys, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	keys, err := k.read(ctx)
	if err != nil || !keys.Empty() {
		return keys, err
	}
	// Somebody else may have made one in the meantime.
	k.last = nil
	if keys, err = k.read(ctx); err != nil || !keys.Empty() {
		return keys, err
	}
	return k.make(ctx)
}

// make makes a key, and reads all again. k.mu is held.
func (k *sealingKeys) make(ctx context.Context) (*sealed.Keys, error) {
	if k.others.active(sealedSecretDialect) {
		return nil, errNoSealingKey
	}
	secret, err := sealed.NewKey(ctx, sealingNamespace, k.bits)
	if err != nil {
		return nil, err
	}
	if err := k.client.Create(ctx, secret); err != nil {
		return nil, secretError("create", secret, err)
	}
	log.FromContext(ctx).Info("made a sealing key", "secret", secret.Name, "namespace", secret.Namespace)
	k.last = nil
	return k.read(ctx)
}

// renew makes a new key when the newest is old enough, until ctx ends.
func (k *sealingKeys) renew(ctx context.Context) error {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			if err := k.renewAt(ctx, now); err != nil && ctx.Err() == nil {
				log.FromContext(ctx).Error(err, "renewing the sealing key")
			}
		}
	}
}

// renewAt makes a new key if one is due.
func (k *sealingKeys) renewAt(ctx context.Context, now time.Time) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	keys, err := k.read(ctx)
	if err != nil || keys.Empty() || now.Before(keys.Due()) || k.others.active(sealedSecretDialect) {
		return err
	}
	_, err = k.make(ctx)
	return err
}

// SealedRoutes are what kubeseal asks for, by http.ServeMux pattern. They are
// for anybody, see sealed.Routes.
func (e *Engine) SealedRoutes() map[string]http.Handler { return sealed.Routes(e.sealed.keys.sure) }

// followSecrets returns what wakes SealedSecrets, until its context ends: by
// the Secrets that are made of them, and by the sealing keys. Only metadata are
// read.
func (r *sealedSecrets) followSecrets(config *rest.Config) (func(context.Context) error, error) {
	f, err := newFollower(config)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		var all sync.WaitGroup
		all.Go(func() {
			f.follow(ctx, "secrets", metav1.NamespaceAll, labels.Set{labelUnsealed: "true"}, func(o metav1.Object) {
				// The SealedSecret has the name of its Secret.
				r.wake.wake(types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}, drifted)
			})
		})
		all.Go(func() {
			f.follow(ctx, "secrets", sealingNamespace, labels.Set{sealed.LabelKey: sealed.LabelActive}, func(metav1.Object) {
				r.keys.forget()
				r.wakeAll(ctx)
			})
		})
		all.Wait()
		return nil
	}, nil
}
