package identity

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/cache"
	authenticationclient "k8s.io/client-go/kubernetes/typed/authentication/v1"
	authorizationclient "k8s.io/client-go/kubernetes/typed/authorization/v1"
	"k8s.io/client-go/rest"

	"github.com/fairway-cd/fairway/internal/core"
)

// Kubernetes is core.Access by Kubernetes' own answers.
//
//   - A token is asked about once in Options.TTL, a permission to read as well;
//     any other permission is asked for every time.
//   - While the API server is away, a token and a permission to read that were
//     confirmed within Options.StaleReads go on, though never beyond the
//     token's own expiry. Everything else is a *core.UnavailableError.
//   - Tokens are not kept: caches know them by their SHA-256.
//
// It is safe for concurrent use.
type Kubernetes struct {
	options Options
	tokens  authenticationclient.TokenReviewInterface
	access  authorizationclient.SubjectAccessReviewInterface
	asker   *asker
	// Wrong tokens have a cache of their own, so that presenting many of them
	// does not push out who is known.
	known, refused *cache.LRUExpireCache // digest → identified, string (the reason)
	decisions      *cache.LRUExpireCache // digest → decision
	failures       *failures
}

var _ core.Access = (*Kubernetes)(nil)

type digest [sha256.Size]byte

// identified is a user who was confirmed at a time.
type identified struct {
	user core.User
	at   time.Time
}

// decision is an answer to whether somebody may read something.
type decision struct {
	allowed bool
	reason  string
	at      time.Time
}

// New returns an Access that asks the API server of config, as config's own
// user, who needs to be allowed to create tokenreviews and
// subjectaccessreviews (the ClusterRole system:auth-delegator).
func New(config *rest.Config, o Options) (*Kubernetes, error) {
	o = o.withDefaults()
	config = rest.CopyConfig(config)
	config.QPS = -1 // the asker limits, by concurrency
	authn, err := authenticationclient.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client for token reviews: %w", err)
	}
	authz, err := authorizationclient.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client for access reviews: %w", err)
	}
	return &Kubernetes{
		options:   o,
		tokens:    authn.TokenReviews(),
		access:    authz.SubjectAccessReviews(),
		asker:     newAsker(o),
		known:     cache.NewLRUExpireCacheWithClock(o.Entries, o.Clock),
		refused:   cache.NewLRUExpireCacheWithClock(o.Entries, o.Clock),
		decisions: cache.NewLRUExpireCacheWithClock(o.Entries, o.Clock),
		failures:  newFailures(o),
	}, nil
}

// Authenticate implements core.Access. An address that presents too many wrong
// tokens gets a *ThrottledError, which is a core.ErrUnauthenticated too.
func (k *Kubernetes) Authenticate(r *http.Request) (core.User, error) {
	token, err := credential(r.Header)
	if err != nil {
		return core.User{}, err
	}
	key := digest(sha256.Sum256([]byte(token)))
	was, known := k.lookUp(key)
	if known && k.fresh(was.at) {
		return was.user, nil
	}
	if reason, ok := k.refused.Get(key); ok {
		return core.User{}, unauthenticated(reason.(string))
	}
	if !known {
		if err := k.failures.check(r.RemoteAddr); err != nil {
			return core.User{}, err
		}
	}
	claims := unverifiedClaims(token)
	answer, err := ask(r.Context(), k.asker, fmt.Sprintf("token %x", key), func(ctx context.Context) (answer, error) {
		return k.review(ctx, key, token, claims, r.RemoteAddr)
	})
	switch {
	case err == nil && answer.refusal != "":
		return core.User{}, unauthenticated(answer.refusal)
	case err == nil:
		return answer.user, nil
	case known && away(err):
		was.user.Stale = true
		return was.user, nil
	case claims.expired(k.options.Clock.Now()):
		return core.User{}, unauthenticated(reasonExpired)
	default:
		return core.User{}, err
	}
}

const reasonExpired = "the token expired"

// lookUp returns who was confirmed for a token, however long ago; an entry
// goes when it may not be used any more.
func (k *Kubernetes) lookUp(key digest) (was identified, known bool) {
	if v, ok := k.known.Get(key); ok {
		return v.(identified), true
	}
	return identified{}, false
}

// lookUpDecision returns what was decided, likewise.
func (k *Kubernetes) lookUpDecision(key digest) (was decision, known bool) {
	if v, ok := k.decisions.Get(key); ok {
		return v.(decision), true
	}
	return decision{}, false
}

// fresh says whether an answer of that time need not be asked for again.
func (k *Kubernetes) fresh(at time.Time) bool { return k.options.Clock.Since(at) < k.options.TTL }

// answer is who a token's bearer is, or why it is refused.
type answer struct {
	user    core.User
	refusal string
}

// review asks whose the token is, and remembers it.
func (k *Kubernetes) review(ctx context.Context, key digest, token string, c claims, remote string) (answer, error) {
	if was, known := k.lookUp(key); known && k.fresh(was.at) {
		return answer{user: was.user}, nil // by a question that has just ended
	}
	now := k.options.Clock.Now()
	spec := authenticationv1.TokenReviewSpec{Token: token}
	// What the token says it is for only decides what is asked. Without an
	// audience the API server asks for its own.
	if c.meantFor(Audience) {
		spec.Audiences = []string{Audience}
	}
	review, err := k.tokens.Create(ctx, &authenticationv1.TokenReview{Spec: spec}, metav1.CreateOptions{})
	if err != nil {
		return answer{}, err
	}
	status := review.Status
	if reason := refusal(spec, status, c.expired(now)); reason != "" {
		k.known.Remove(key)
		k.refused.Add(key, reason, k.options.RefusalTTL)
		k.failures.add(remote)
		return answer{refusal: reason}, nil
	}
	user := core.User{Name: status.User.Username, UID: status.User.UID, Groups: status.User.Groups}
	if len(status.User.Extra) > 0 {
		user.Extra = make(map[string][]string, len(status.User.Extra))
		for name, values := range status.User.Extra {
			user.Extra[name] = values
		}
	}
	keep := max(k.options.StaleReads, k.options.TTL)
	if !c.Expires.IsZero() {
		keep = min(keep, c.Expires.Sub(now))
	}
	k.known.Add(key, identified{user, now}, keep)
	return answer{user: user}, nil
}

// refusal says why a review is not one of a user, or nothing if it is.
func refusal(asked authenticationv1.TokenReviewSpec, got authenticationv1.TokenReviewStatus, expired bool) string {
	switch {
	case !got.Authenticated && expired:
		return reasonExpired
	case !got.Authenticated:
		return "the cluster does not know the token; it may be wrong or revoked"
	case len(asked.Audiences) > 0 && !slices.Contains(got.Audiences, asked.Audiences[0]):
		// The API of TokenReview asks callers to check: a server that knows no
		// audiences has judged the token as one for itself.
		return "the token is for another audience"
	case got.User.Username == "" || slices.Contains(got.User.Groups, "system:unauthenticated"):
		return "the token is nobody's"
	default:
		return ""
	}
}

// Authorize implements core.Access.
func (k *Kubernetes) Authorize(ctx context.Context, u core.User, a core.Action) error {
	if u.Name == "" {
		return core.ErrUnauthenticated
	}
	read := isRead(a.Verb)
	if u.Stale && !read {
		return unavailable(fmt.Errorf("user %q could not be confirmed just now, and only reads go on without", u.Name))
	}
	key := decisionKey(u, a)
	was, known := k.lookUpDecision(key)
	if known && k.fresh(was.at) {
		return was.verdict(u, a)
	}
	d, err := ask(ctx, k.asker, fmt.Sprintf("access %x", key), func(ctx context.Context) (decision, error) {
		return k.decide(ctx, key, u, a)
	})
	switch {
	case err == nil:
		return d.verdict(u, a)
	case known && was.allowed && away(err):
		return nil
	default:
		return err
	}
}

func (d decision) verdict(u core.User, a core.Action) error {
	if d.allowed {
		return nil
	}
	return &core.ForbiddenError{User: u.Name, Action: a, Reason: d.reason}
}

// isRead says whether a verb changes nothing, so that its permission may be
// remembered.
func isRead(verb string) bool { return verb == "get" || verb == "list" || verb == "watch" }

// decide asks whether u may do a, and remembers it for reads.
func (k *Kubernetes) decide(ctx context.Context, key digest, u core.User, a core.Action) (decision, error) {
	if was, known := k.lookUpDecision(key); known && k.fresh(was.at) {
		return was, nil // by a question that has just ended
	}
	now := k.options.Clock.Now()
	spec := authorizationv1.SubjectAccessReviewSpec{
		User: u.Name, UID: u.UID, Groups: u.Groups,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: a.Verb, Group: a.Group, Resource: a.Resource, Namespace: a.Namespace, Name: a.Name,
		},
	}
	if len(u.Extra) > 0 {
		spec.Extra = make(map[string]authorizationv1.ExtraValue, len(u.Extra))
		for name, values := range u.Extra {
			spec.Extra[name] = values
		}
	}
	review, err := k.access.Create(ctx, &authorizationv1.SubjectAccessReview{Spec: spec}, metav1.CreateOptions{})
	if err != nil {
		return decision{}, err
	}
	d := decision{allowed: review.Status.Allowed && !review.Status.Denied, reason: review.Status.Reason, at: now}
	switch {
	case !isRead(a.Verb):
	case d.allowed:
		k.decisions.Add(key, d, max(k.options.StaleReads, k.options.TTL))
	default:
		k.decisions.Add(key, d, k.options.RefusalTTL)
	}
	return d, nil
}

// decisionKey names the question of whether u may do a.
func decisionKey(u core.User, a core.Action) digest {
	u.Stale = false // is about when it was asked, not about who
	data, err := json.Marshal(struct {
		User   core.User
		Action core.Action
	}{u, a})
	if err != nil {
		panic(err) // strings always marshal
	}
	return sha256.Sum256(data)
}
