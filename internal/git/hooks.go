package git

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
)

// hookKind is a forge's dialect of webhooks. The libraries of the field
// (go-playground/webhooks) parse dozens of payloads, of which we want four
// fields, accept anything where the secret is empty, and take one secret each,
// so that none can be changed without a gap.
type hookKind struct {
	// event is the header that names the event, pushes are those that bring
	// news. Others are acknowledged. Empty: every request does.
	event  string
	pushes []string
	// notices are events that bring no commit, and yet news of the repository.
	notices []string
	// proof is the header with the signature or token; verify says whether the
	// request was made with the secret.
	proof  string
	verify func(h http.Header, body, secret []byte) bool
	// unsigned is a header that tells deliveries apart where the body is not
	// signed; where it is, the body itself does.
	unsigned string
	// dated holds where the payload must say when it was made.
	dated bool
}

// hookKinds are by the last part of the path.
var hookKinds = map[string]hookKind{
	"github": {event: "X-GitHub-Event", pushes: []string{"push", "create", "delete"}, notices: []string{"pull_request", "repository"},
		proof: "X-Hub-Signature-256", verify: signedBy("X-Hub-Signature-256")},
	"gitea": {event: "X-Gitea-Event", pushes: []string{"push", "create", "delete"}, notices: []string{"pull_request", "pull_request_label", "pull_request_sync", "repository"},
		proof: "X-Gitea-Signature", verify: signedBy("X-Gitea-Signature")},
	"gitlab": {event: "X-Gitlab-Event", pushes: []string{"Push Hook", "Tag Push Hook"}, notices: []string{"Merge Request Hook"}, unsigned: "Idempotency-Key",
		proof: "X-Gitlab-Token", verify: func(h http.Header, _, secret []byte) bool {
			got, want := sha256.Sum256([]byte(h.Get("X-Gitlab-Token"))), sha256.Sum256(secret)
			return subtle.ConstantTimeCompare(got[:], want[:]) == 1
		}},
	"generic": {proof: "X-Signature", verify: signedBy("X-Signature"), dated: true},
}

// signedBy checks a hexadecimal HMAC-SHA256 of the body, with or without
// "sha256=" before it.
func signedBy(header string) func(http.Header, []byte, []byte) bool {
	return func(h http.Header, body, secret []byte) bool {
		got, err := hex.DecodeString(strings.TrimPrefix(h.Get(header), "sha256="))
		mac := hmac.New(sha256.New, secret)
		mac.Write(body)
		return err == nil && hmac.Equal(got, mac.Sum(nil))
	}
}

const (
	// maxHookBody is what GitHub sends at most.
	maxHookBody = 25 << 20
	// replayWindow is how long deliveries are remembered; older ones are
	// refused by their date where they have one. clockSkew is how far ahead a
	// sender's clock may be.
	replayWindow = 24 * time.Hour
	clockSkew    = 5 * time.Minute
)

// hookPayload is what is read of a payload: the URLs under which the
// repository may be known, and when it was sent.
type hookPayload struct {
	// Repository is GitHub's and Gitea's, Project is GitLab's.
	Repository struct {
		CloneURL string          `json:"clone_url"`
		SSHURL   string          `json:"ssh_url"`
		HTMLURL  string          `json:"html_url"`
		GitHTTP  string          `json:"git_http_url"`
		PushedAt json.RawMessage `json:"pushed_at"`
	} `json:"repository"`
	Project struct {
		GitHTTP string `json:"git_http_url"`
		GitSSH  string `json:"git_ssh_url"`
		WebURL  string `json:"web_url"`
	} `json:"project"`
	// URL and Timestamp (RFC 3339) are of the generic kind.
	URL       string    `json:"url"`
	Timestamp time.Time `json:"timestamp"`
}

func parseHook(body []byte) (*hookPayload, error) {
	var p hookPayload
	if err := json.Unmarshal(body, &p); err != nil {
		return nil, &badRequest{http.StatusBadRequest, "the payload is not JSON as expected (set the webhook's content type to application/json)"}
	}
	return &p, nil
}

// urlKeys are the repository's URLs in the form in which they are compared.
func (p *hookPayload) urlKeys() []string {
	var keys []string
	for _, s := range []string{p.Repository.CloneURL, p.Repository.SSHURL, p.Repository.HTMLURL, p.Repository.GitHTTP,
		p.Project.GitHTTP, p.Project.GitSSH, p.Project.WebURL, p.URL} {
		if u, err := parseRemote(s); err == nil && !slices.Contains(keys, u.key()) {
			keys = append(keys, u.key())
		}
	}
	return keys
}

// sent is when the payload was made; zero where it does not say.
func (p *hookPayload) sent() time.Time {
	if !p.Timestamp.IsZero() {
		return p.Timestamp
	}
	// GitHub has seconds here in push events, and text elsewhere.
	if n, err := strconv.ParseInt(string(p.Repository.PushedAt), 10, 64); err == nil {
		return time.Unix(n, 0)
	}
	return time.Time{}
}

type hookServer struct {
	*Store
	secrets HookSecrets
	seen    *seenLog
	intake  *intake
}

// HookSecrets returns the secrets of a kind of webhook, none where it is not
// set up. An error says that they cannot be had now.
type HookSecrets func(ctx context.Context, kind string) ([][]byte, error)

// Hooks serves webhooks at /hooks/KIND: github, gitlab, gitea (Forgejo too)
// and generic. A push that is announced there is fetched at once. Deliveries
// without a valid signature are refused, and so are those that were taken
// before. Any of the secrets may have been used, so that they can be changed;
// a kind without secrets is not served.
//
// The generic kind is a POST of {"url": …, "timestamp": RFC 3339} with
// "X-Signature: sha256=HMAC" in hexadecimal.
func (s *Store) Hooks(secrets HookSecrets) (http.Handler, error) {
	seen, err := loadSeenLog(filepath.Join(s.dir, "hooks-seen"), replayWindow)
	if err != nil {
		return nil, err
	}
	return &hookServer{Store: s, secrets: secrets, seen: seen, intake: newIntake(intakeAll, intakeEach)}, nil
}

func (s *hookServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text, err := s.take(w, r)
	if err != nil {
		s.sayError(w, r, err)
		return
	}
	w.WriteHeader(http.StatusAccepted)
	fmt.Fprintln(w, text)
}

func (s *hookServer) take(w http.ResponseWriter, r *http.Request) (text string, err error) {
	name := strings.TrimPrefix(r.URL.Path, "/hooks/")
	kind, known := hookKinds[name]
	if !known {
		return "", &badRequest{http.StatusNotFound, "no such kind of webhook, want github, gitlab, gitea or generic"}
	}
	if r.Method != http.MethodPost {
		return "", &badRequest{http.StatusMethodNotAllowed, "webhooks are sent with POST"}
	}
	if r.Header.Get(kind.proof) == "" {
		return "", refusedHook(name) // nothing of its body need be read
	}
	err = s.intake.body(w, r, func(body []byte) error {
		if err := s.signed(r.Context(), name, kind, r.Header, body); err != nil {
			return err
		}
		text, err = s.understood(name, kind, r.Header, body)
		return err
	})
	return text, err
}

func refusedHook(kind string) error {
	return &badRequest{http.StatusForbidden, "the signature is missing or wrong, or no secret is set up for webhooks of kind " + kind}
}

// understood takes a webhook whose sender is known.
func (s *hookServer) understood(name string, kind hookKind, h http.Header, body []byte) (string, error) {
	noticed := slices.Contains(kind.notices, h.Get(kind.event))
	if kind.event != "" && !noticed && !slices.Contains(kind.pushes, h.Get(kind.event)) {
		return "nothing to do for this event", nil
	}
	p, err := parseHook(body)
	if err != nil {
		return "", err
	}
	keys := p.urlKeys()
	if len(keys) == 0 {
		return "", &badRequest{http.StatusBadRequest, "the payload names no repository"}
	}
	if err := p.checkDate(kind, time.Now()); err != nil {
		return "", err
	}
	id := sha256.New()
	fmt.Fprintf(id, "%s\n%s\n", name, h.Get(kind.unsigned))
	id.Write(body)
	fresh, err := s.seen.add(hex.EncodeToString(id.Sum(nil)), time.Now())
	if err != nil {
		return "", err
	}
	if !fresh {
		return "", &badRequest{http.StatusConflict, "this delivery was taken before"}
	}
	s.notice(name, keys)
	if noticed {
		return "noticed", nil
	}
	return s.announce(keys)
}

// notice tells who is interested of news of a repository.
func (s *hookServer) notice(kind string, keys []string) {
	if s.options.Noticed == nil {
		return
	}
	var told []string
	for _, key := range keys {
		// Behind the host, which may have another name for its API.
		if _, repository, ok := strings.Cut(key, "/"); ok && !slices.Contains(told, repository) {
			told = append(told, repository)
			s.options.Noticed(kind, repository)
		}
	}
}

// signed is an error unless the request was made with one of the secrets.
func (s *hookServer) signed(ctx context.Context, name string, kind hookKind, h http.Header, body []byte) error {
	secrets, err := s.secrets(ctx, name)
	if err != nil {
		return &core.UnavailableError{What: "the webhooks' secret", Err: err}
	}
	ok := false
	for _, secret := range secrets {
		ok = len(secret) > 0 && kind.verify(h, body, secret) || ok
	}
	if !ok {
		return refusedHook(name)
	}
	return nil
}

func (p *hookPayload) checkDate(kind hookKind, now time.Time) error {
	sent := p.sent()
	switch {
	case sent.IsZero() && kind.dated:
		return &badRequest{http.StatusBadRequest, "the payload has no timestamp"}
	case sent.IsZero():
		return nil
	case now.Sub(sent) > replayWindow:
		return &badRequest{http.StatusConflict, "this delivery is too old"}
	case sent.Sub(now) > clockSkew && kind.dated:
		return &badRequest{http.StatusBadRequest, "this delivery is from the future"}
	}
	return nil
}

// announce fetches the mirrors that the keys name.
func (s *hookServer) announce(keys []string) (string, error) {
	mirrors, err := s.mirrors()
	if err != nil {
		return "", err
	}
	count := 0
	for _, r := range mirrors {
		u, err := parseRemote(r.url)
		if err != nil || !slices.Contains(keys, u.key()) {
			continue
		}
		count++
		auth := s.lastAuth(r)
		if auth == nil {
			if s.options.Announced != nil {
				s.options.Announced(r.url)
			}
			continue
		}
		s.background.Go(func() {
			if _, err := s.fetch(s.ctx, u, *auth, ""); err != nil && s.ctx.Err() == nil {
				s.log.Warn("Fetching what a webhook announced failed", "repository", r.url, "error", err)
			}
		})
	}
	if count == 0 {
		return "nothing here mirrors this repository", nil
	}
	return "fetching", nil
}

// lastAuth is what the mirror was fetched with the last time that went well.
func (s *Store) lastAuth(r *repository) *Auth { return s.gate(r.dir).auth.Load() }
