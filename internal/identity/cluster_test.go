package identity

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/testkit"
)

// TestCluster is what needs a real API server. Its parts share one, and the
// last of them takes it away.
func TestCluster(t *testing.T) {
	c := testkit.StartCluster(t, testkit.ClusterOptions{KwokNodes: -1})
	for _, part := range []struct {
		name string
		test func(*testing.T, *testkit.Cluster)
	}{
		{"wrong tokens", testWrongTokens},
		{"audiences", testAudiences},
		{"permissions", testPermissions},
		{"robots", testRobots},
		{"revocation", testRevocation},
		{"people", testPeople},
		{"mirrors", testMirrorPolicy},
		{"operator and node", testAccounts},
		{"one question for many", testQuestions},
		{"throttling", testThrottling},
		{"require", testRequire},
		{"hanging API server", testHanging},
		{"API server away", testAway},
	} {
		t.Run(part.name, func(t *testing.T) { part.test(t, c) })
	}
}

func newAccess(t *testing.T, config *rest.Config, o Options) *Kubernetes {
	t.Helper()
	k, err := New(config, o)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// bearer is a request with a token.
func bearer(ctx context.Context, token string) *http.Request {
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

// newRobot makes a robot and a token of it.
func newRobot(t *testing.T, c *testkit.Cluster, namespace, name string, can []string, audiences ...string) (Robot, Token) {
	t.Helper()
	grants, err := ParseGrants(can, namespace)
	if err != nil {
		t.Fatal(err)
	}
	robots := NewRobots(c.Client)
	robot, err := robots.Ensure(t.Context(), namespace, name, grants)
	if err != nil {
		t.Fatal(err)
	}
	token, err := robots.Token(t.Context(), robot, 10*time.Minute, audiences...)
	if err != nil {
		t.Fatal(err)
	}
	return robot, token
}

func action(verb, resource, namespace, name string) core.Action {
	return core.Action{Verb: verb, Group: core.Group, Resource: resource, Namespace: namespace, Name: name}
}

func testWrongTokens(t *testing.T, c *testkit.Cluster) {
	k := newAccess(t, c.Config, Options{})
	_, good := newRobot(t, c, c.Namespace(t), "ci", nil, Audience)
	head, _, _ := strings.Cut(good.Value, ".")
	for name, wrong := range map[string]struct{ token, says string }{
		"junk":            {"junk", "wrong or revoked"},
		"other signature": {good.Value[:len(good.Value)-8] + "AAAAAAAA", "wrong or revoked"},
		"no signature":    {head + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"system:admin"}`)) + ".", "wrong or revoked"},
		"expired":         {expired(t, c, good.Value), "expired"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := k.Authenticate(bearer(t.Context(), wrong.token))
			if !errors.Is(err, core.ErrUnauthenticated) || !strings.Contains(err.Error(), wrong.says) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("space", func(t *testing.T) {
		// credential lets no such token through; this is the door behind it.
		a, err := k.review(t.Context(), digest{}, " x", claims{}, "192.0.2.1:1")
		if err != nil || a.refusal == "" {
			t.Errorf("got %+v, %v", a, err)
		}
	})
}

// expired is the token as the API server would have made it an hour ago,
// signed with its own key.
func expired(t *testing.T, c *testkit.Cluster, token string) string {
	t.Helper()
	parts := strings.Split(token, ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	now := time.Now().Unix()
	claims["iat"], claims["nbf"], claims["exp"] = now-7200, now-7200, now-3600
	if payload, err = json.Marshal(claims); err != nil {
		t.Fatal(err)
	}
	signed := parts[0] + "." + base64.RawURLEncoding.EncodeToString(payload)
	sum := sha256.Sum256([]byte(signed))
	var signature []byte
	switch key := accountKey(t, c).(type) {
	case *rsa.PrivateKey:
		signature, err = rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	case *ecdsa.PrivateKey:
		r, s, signErr := ecdsa.Sign(rand.Reader, key, sum[:])
		if err = signErr; err == nil {
			signature = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		}
	default:
		t.Fatalf("key of type %T", key)
	}
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// accountKey is the key with which the cluster signs tokens.
func accountKey(t *testing.T, c *testkit.Cluster) crypto.PrivateKey {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(c.Dir, "pki", "service-account.key"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		return key
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func testAudiences(t *testing.T, c *testkit.Cluster) {
	k := newAccess(t, c.Config, Options{})
	namespace := c.Namespace(t)
	for name, want := range map[string]struct {
		audiences        []string
		fairway, cluster bool
	}{
		"fairway":   {[]string{Audience}, true, false},
		"cluster":   {nil, true, true},
		"elsewhere": {[]string{"elsewhere"}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			robot, token := newRobot(t, c, namespace, name, nil, want.audiences...)
			u, err := k.Authenticate(bearer(t.Context(), token.Value))
			if (err == nil) != want.fairway || (err == nil && u.Name != robot.User()) {
				t.Errorf("Fairway: %q, %v", u.Name, err)
			}
			anonymous := rest.AnonymousClientConfig(c.Config)
			anonymous.BearerToken = token.Value
			client, err := kubernetes.NewForConfig(anonymous)
			if err != nil {
				t.Fatal(err)
			}
			review, err := client.AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
			if (err == nil) != want.cluster || (err == nil && review.Status.UserInfo.Username != robot.User()) {
				t.Errorf("cluster: %v", err)
			}
		})
	}
}

func testPermissions(t *testing.T, c *testkit.Cluster) {
	k := newAccess(t, c.Config, Options{})
	here, there := c.Namespace(t), c.Namespace(t)
	const repos, images = core.ResourceRepositories, core.ResourceImages
	for _, robot := range []struct {
		name string
		can  []string
		may  []core.Action
		not  []core.Action
	}{
		{"nothing", nil, nil, []core.Action{action("get", repos, here, "web-app")}},
		{"push", []string{"push:web-app"},
			[]core.Action{
				action("get", repos, here, "web-app"), action("update", repos, here, "web-app"),
				action("get", images, here, "web-app"), action("update", images, here, "web-app"),
			},
			[]core.Action{
				action("create", repos, here, "web-app"), action("delete", repos, here, "web-app"), action("delete", images, here, "web-app"),
				action("update", repos, here, "other"), action("update", repos, there, "web-app"), action("get", repos, here, ""),
				{Verb: "get", Resource: "secrets", Namespace: here, Name: "web-app"},
			}},
		{"create", []string{"repo:create:web-app"},
			[]core.Action{action("create", repos, here, "web-app"), action("update", repos, here, "web-app"), action("get", repos, here, "web-app")},
			[]core.Action{action("create", repos, here, "other"), action("get", images, here, "web-app")}},
		{"deep", []string{"image:push:" + there + "/a/b"},
			[]core.Action{action("update", images, there, "a/b")},
			[]core.Action{action("update", images, there, "a"), action("update", images, here, "a/b"), action("get", repos, there, "a/b")}},
		{"all", []string{"pull:" + there + "/*", "delete:x"},
			[]core.Action{action("get", repos, there, "any"), action("get", images, there, "any/more"), action("delete", repos, here, "x")},
			[]core.Action{action("get", repos, here, "any"), action("update", repos, there, "any")}},
	} {
		t.Run(robot.name, func(t *testing.T) {
			_, token := newRobot(t, c, here, robot.name, robot.can, Audience)
			u, err := k.Authenticate(bearer(t.Context(), token.Value))
			if err != nil {
				t.Fatal(err)
			}
			// RBAC reaches the API server's authorizer by a watch.
			for _, a := range robot.may {
				testkit.Eventually(t, a.String(), func() error { return newAccess(t, c.Config, Options{}).Authorize(t.Context(), u, a) })
			}
			for _, a := range robot.not {
				var forbidden *core.ForbiddenError
				if err := k.Authorize(t.Context(), u, a); !errors.As(err, &forbidden) || forbidden.User != u.Name {
					t.Errorf("%s: %v", a, err)
				}
			}
		})
	}
	if err := k.Authorize(t.Context(), core.User{}, action("get", repos, here, "x")); !errors.Is(err, core.ErrUnauthenticated) {
		t.Errorf("nobody: %v", err)
	}
}

func testRobots(t *testing.T, c *testkit.Cluster) {
	robots, namespace := NewRobots(c.Client), c.Namespace(t)
	parse := func(can ...string) []Grant {
		grants, err := ParseGrants(can, namespace)
		if err != nil {
			t.Fatal(err)
		}
		return grants
	}
	grants := parse("push:b", "pull:a")
	for range 2 { // the second time changes nothing
		if _, err := robots.Ensure(t.Context(), namespace, "ci", grants); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := robots.Ensure(t.Context(), namespace, "ci", nil); err != nil || joinGrants(r.Grants) != joinGrants(grants) {
		t.Errorf("without grants: %+v, %v", r, err)
	}
	var exists *RobotExistsError
	if _, err := robots.Ensure(t.Context(), namespace, "ci", parse("delete:a")); !errors.As(err, &exists) {
		t.Errorf("other grants: %v", err)
	}
	var foreign *NotARobotError
	if _, err := robots.Ensure(t.Context(), namespace, "default", grants); !errors.As(err, &foreign) {
		t.Errorf("an account that is not ours: %v", err)
	}
	if _, err := robots.Revoke(t.Context(), namespace, "default"); !errors.As(err, &foreign) {
		t.Errorf("revoking an account that is not ours: %v", err)
	}
	if _, err := robots.Ensure(t.Context(), namespace, "Not A Name", nil); err == nil {
		t.Error("a name that is none was taken")
	}
	list, err := robots.List(t.Context(), namespace)
	if err != nil || len(list) != 1 || list[0].Name != "ci" || joinGrants(list[0].Grants) != joinGrants(grants) {
		t.Errorf("list: %+v, %v", list, err)
	}
	robot, err := robots.Revoke(t.Context(), namespace, "ci")
	if err != nil {
		t.Fatal(err)
	}
	roles, err := c.Client.RbacV1().Roles(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(roles.Items) != 0 {
		t.Errorf("roles are left: %v, %v", roles.Items, err)
	}
	if _, err := robots.Revoke(t.Context(), namespace, robot.Name); !errors.Is(err, ErrNoRobot) {
		t.Errorf("revoked twice: %v", err)
	}
}

// testRevocation has nothing but the defaults, and says how long it took.
func testRevocation(t *testing.T, c *testkit.Cluster) {
	k, namespace := newAccess(t, c.Config, Options{}), c.Namespace(t)
	robot, token := newRobot(t, c, namespace, "ci", []string{"push:web-app"}, Audience)
	pull, push := action("get", core.ResourceRepositories, namespace, "web-app"), action("update", core.ResourceRepositories, namespace, "web-app")
	attempt := func(a core.Action) error {
		u, err := k.Authenticate(bearer(t.Context(), token.Value))
		if err != nil {
			return err
		}
		return k.Authorize(t.Context(), u, a)
	}
	testkit.Eventually(t, "the grant", func() error { return errors.Join(attempt(pull), attempt(push)) })
	if _, err := NewRobots(c.Client).Revoke(t.Context(), namespace, robot.Name); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	refused := func(a core.Action) func() error {
		return func() error {
			if attempt(a) == nil {
				return errors.New("still allowed")
			}
			return nil
		}
	}
	testkit.Eventually(t, "the end of pushing", refused(push))
	t.Logf("pushing was refused %s after the revocation", time.Since(start).Round(time.Millisecond))
	testkit.Eventually(t, "the end of pulling", refused(pull))
	t.Logf("pulling was refused %s after the revocation", time.Since(start).Round(time.Millisecond))
	testkit.Eventually(t, "the end of the token", func() error {
		if _, err := k.Authenticate(bearer(t.Context(), token.Value)); !errors.Is(err, core.ErrUnauthenticated) {
			return errors.New("still known")
		}
		return nil
	})
	t.Logf("the token was refused %s after the revocation", time.Since(start).Round(time.Millisecond))
}

// testPeople gives somebody the cluster's own role edit in one namespace.
func testPeople(t *testing.T, c *testkit.Cluster) {
	for range 2 {
		if err := EnsureRoles(t.Context(), c.Client); err != nil {
			t.Fatal(err)
		}
	}
	k, namespace := newAccess(t, c.Config, Options{}), c.Namespace(t)
	if err := EnsureReaders(t.Context(), c.Client, namespace); err != nil {
		t.Fatal(err)
	}
	deliveries := core.User{Name: "system:serviceaccount:" + namespace + ":default"}
	read := action("get", core.ResourceRepositories, "default", "x")
	testkit.Eventually(t, read.String(), func() error { return newAccess(t, c.Config, Options{}).Authorize(t.Context(), deliveries, read) })
	for _, a := range []core.Action{action("update", core.ResourceRepositories, "default", "x"), action("get", core.ResourceImages, "default", "x")} {
		if err := k.Authorize(t.Context(), deliveries, a); !errors.As(err, new(*core.ForbiddenError)) {
			t.Errorf("deliveries: %s: %v", a, err)
		}
	}
	jane := core.User{Name: "jane", Groups: []string{"developers"}}
	_, err := c.Client.RbacV1().RoleBindings(namespace).Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "developers"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "edit"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "Group", Name: "developers"}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []core.Action{
		action("update", core.ResourceImages, namespace, "x"), action("create", core.ResourceRepositories, namespace, "x"),
		{Verb: "list", Group: "argoproj.io", Resource: "applications", Namespace: namespace},
	} {
		testkit.Eventually(t, a.String(), func() error { return newAccess(t, c.Config, Options{}).Authorize(t.Context(), jane, a) })
	}
	var forbidden *core.ForbiddenError
	for _, a := range []core.Action{
		action("delete", core.ResourceRepositories, namespace, "x"), action("get", core.ResourceRepositories, "default", "x"),
		{Verb: "create", Group: "argoproj.io", Resource: "applications", Namespace: namespace},
	} {
		if err := k.Authorize(t.Context(), jane, a); !errors.As(err, &forbidden) {
			t.Errorf("%s: %v", a, err)
		}
	}
}

func testAccounts(t *testing.T, c *testkit.Cluster) {
	k := newAccess(t, c.Config, Options{})
	var operator, node Token
	for range 2 {
		var err error
		if operator, err = EnsureOperator(t.Context(), c.Client, 365*24*time.Hour); err != nil {
			t.Fatal(err)
		}
		if node, err = EnsureNodePull(t.Context(), c.Client, 24*time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if left := time.Until(operator.Expires); left < 360*24*time.Hour {
		t.Errorf("the operator's token is good for %v", left)
	}
	pull, push := action("get", core.ResourceImages, "any", "thing"), action("update", core.ResourceImages, "any", "thing")
	u, err := k.Authenticate(bearer(t.Context(), operator.Value))
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the operator to be allowed", func() error { return k.Authorize(t.Context(), u, push) })
	if u, err = k.Authenticate(bearer(t.Context(), node.Value)); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the node to be allowed", func() error { return k.Authorize(t.Context(), u, pull) })
	var forbidden *core.ForbiddenError
	for _, a := range []core.Action{push, action("get", core.ResourceRepositories, "any", "thing")} {
		if err := k.Authorize(t.Context(), u, a); !errors.As(err, &forbidden) {
			t.Errorf("node: %s: %v", a, err)
		}
	}
}

// counted counts what is really sent to the API server.
func counted(config *rest.Config, n *atomic.Int64) *rest.Config {
	config = rest.CopyConfig(config)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) { n.Add(1); return next.RoundTrip(r) })
	})
	return config
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func testQuestions(t *testing.T, c *testkit.Cluster) {
	var asked atomic.Int64
	clock := clocktesting.NewFakePassiveClock(time.Now())
	k := newAccess(t, counted(c.Config, &asked), Options{Clock: clock})
	namespace := c.Namespace(t)
	_, token := newRobot(t, c, namespace, "ci", []string{"push:web-app"}, Audience)
	pull, push := action("get", core.ResourceRepositories, namespace, "web-app"), action("update", core.ResourceRepositories, namespace, "web-app")
	var u core.User
	testkit.Eventually(t, "the grant", func() error {
		var err error
		if u, err = k.Authenticate(bearer(t.Context(), token.Value)); err != nil {
			return err
		}
		return k.Authorize(t.Context(), u, push)
	})
	count := func(f func() error) int64 {
		before := asked.Load()
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if err := f(); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		return asked.Load() - before
	}
	authenticate := func() error { _, err := k.Authenticate(bearer(t.Context(), token.Value)); return err }
	read := func() error { return k.Authorize(t.Context(), u, pull) }
	if n := count(authenticate); n != 0 {
		t.Errorf("a token just confirmed: %d questions", n)
	}
	clock.SetTime(clock.Now().Add(11 * time.Second))
	if n := count(authenticate); n != 1 {
		t.Errorf("50 requests with one token: %d questions", n)
	}
	if n := count(read); n != 1 {
		t.Errorf("50 reads: %d questions", n)
	}
	// A write is always asked for; only those at the very same time share.
	for range 3 {
		before := asked.Load()
		if err := k.Authorize(t.Context(), u, push); err != nil || asked.Load() != before+1 {
			t.Errorf("a write: %d questions, %v", asked.Load()-before, err)
		}
	}
}

func testThrottling(t *testing.T, c *testkit.Cluster) {
	clock := clocktesting.NewFakePassiveClock(time.Now())
	var asked atomic.Int64
	k := newAccess(t, counted(c.Config, &asked), Options{FailureBurst: 5, Clock: clock})
	_, token := newRobot(t, c, c.Namespace(t), "ci", nil, Audience)
	if _, err := k.Authenticate(bearer(t.Context(), token.Value)); err != nil {
		t.Fatal(err)
	}
	before := asked.Load()
	var throttled *ThrottledError
	for i := range 50 {
		_, err := k.Authenticate(bearer(t.Context(), "wrong-"+string(rune('a'+i%25))+string(rune('a'+i/25))))
		if !errors.Is(err, core.ErrUnauthenticated) || errors.As(err, &throttled) != (i >= 5) {
			t.Errorf("wrong token %d: %v", i, err)
		}
	}
	if n := asked.Load() - before; n != 5 {
		t.Errorf("%d questions", n)
	}
	// A neighbour at the same address who is known goes on, also when it is
	// time to ask again.
	clock.SetTime(clock.Now().Add(500 * time.Millisecond))
	if _, err := k.Authenticate(bearer(t.Context(), token.Value)); err != nil {
		t.Errorf("known, fresh: %v", err)
	}
	k.known.Add(digest(sha256.Sum256([]byte(token.Value))), identified{at: clock.Now().Add(-time.Minute)}, time.Minute)
	if _, err := k.Authenticate(bearer(t.Context(), token.Value)); err != nil {
		t.Errorf("known, to be asked again: %v", err)
	}
}

func testRequire(t *testing.T, c *testkit.Cluster) {
	k, namespace := newAccess(t, c.Config, Options{}), c.Namespace(t)
	_, token := newRobot(t, c, namespace, "ci", []string{"repo:pull:web-app"}, Audience)
	may := Require(k, func(r *http.Request) core.Action {
		return action("get", core.ResourceRepositories, namespace, strings.TrimPrefix(r.URL.Path, "/"))
	})
	server := httptest.NewServer(may(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
	})))
	defer server.Close()
	do := func(method, path string, set map[string]string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range set {
			r.Header.Set(k, v)
		}
		answer, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		return answer
	}
	asBearer := map[string]string{"Authorization": "Bearer " + token.Value}
	testkit.Eventually(t, "200", func() error {
		answer := do("GET", "/web-app", map[string]string{"Authorization": basic("anybody", token.Value)})
		if answer.StatusCode != http.StatusOK {
			return errors.New(answer.Status)
		}
		return nil
	})
	if a := do("GET", "/other", asBearer); a.StatusCode != http.StatusForbidden {
		t.Errorf("without permission: %s", a.Status)
	}
	a := do("GET", "/web-app", nil)
	if ways := a.Header.Values("WWW-Authenticate"); a.StatusCode != http.StatusUnauthorized || len(ways) != 2 || strings.Contains(ways[0], "error=") {
		t.Errorf("without credential: %s, %q", a.Status, ways)
	}
	a = do("GET", "/web-app", map[string]string{"Authorization": "Bearer wrong"})
	if ways := a.Header.Values("WWW-Authenticate"); a.StatusCode != http.StatusUnauthorized || !strings.Contains(ways[0], `error="invalid_token"`) {
		t.Errorf("wrong token: %s, %q", a.Status, ways)
	}
	foreign := map[string]string{"Authorization": asBearer["Authorization"], "Sec-Fetch-Site": "cross-site"}
	if a := do("POST", "/web-app", foreign); a.StatusCode != http.StatusForbidden {
		t.Errorf("from a foreign page: %s", a.Status)
	}
	if a := do("GET", "/web-app", map[string]string{"Accept": "text/plain"}); !strings.HasPrefix(a.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("text asked for, got %q", a.Header.Get("Content-Type"))
	}
}

// confirmed is a robot with a read and a write that were both just allowed.
type confirmed struct {
	k          *Kubernetes
	clock      *clocktesting.FakePassiveClock
	token      Token
	user       core.User
	pull, push core.Action
}

func newConfirmed(t *testing.T, c *testkit.Cluster, config *rest.Config, namespace string, o Options) *confirmed {
	t.Helper()
	clock := clocktesting.NewFakePassiveClock(time.Now())
	o.Clock = clock
	s := &confirmed{
		k: newAccess(t, config, o), clock: clock,
		pull: action("get", core.ResourceRepositories, namespace, "web-app"),
		push: action("update", core.ResourceRepositories, namespace, "web-app"),
	}
	_, s.token = newRobot(t, c, namespace, "ci", []string{"push:web-app"}, Audience)
	testkit.Eventually(t, "the grant", func() error {
		// Refusals are remembered by this clock.
		clock.SetTime(clock.Now().Add(3 * time.Second))
		var err error
		if s.user, err = s.k.Authenticate(bearer(t.Context(), s.token.Value)); err != nil {
			return err
		}
		return errors.Join(s.k.Authorize(t.Context(), s.user, s.pull), s.k.Authorize(t.Context(), s.user, s.push))
	})
	return s
}

// goesOnForReads says that a confirmed robot may read, and nothing else.
func (s *confirmed) goesOnForReads(t *testing.T) {
	t.Helper()
	u, err := s.k.Authenticate(bearer(t.Context(), s.token.Value))
	if err != nil {
		t.Fatalf("the token: %v", err)
	}
	if !u.Stale || u.Name != s.user.Name {
		t.Errorf("got %+v", u)
	}
	if err := s.k.Authorize(t.Context(), u, s.pull); err != nil {
		t.Errorf("a read: %v", err)
	}
	other := s.pull
	other.Name = "other"
	for name, a := range map[string]core.Action{"a write": s.push, "a read that was not allowed before": other} {
		wantUnavailable(t, name, s.k.Authorize(t.Context(), u, a))
	}
	// Nor does a write go on for a user who was confirmed just before.
	wantUnavailable(t, "a write of a fresh user", s.k.Authorize(t.Context(), s.user, s.push))
	_, err = s.k.Authenticate(bearer(t.Context(), "never-seen"))
	wantUnavailable(t, "a new token", err)
}

func wantUnavailable(t *testing.T, what string, err error) {
	t.Helper()
	var unavailable *core.UnavailableError
	if !errors.As(err, &unavailable) || unavailable.Err == nil {
		t.Errorf("%s: %v", what, err)
	}
}

func testHanging(t *testing.T, c *testkit.Cluster) {
	proxy := startProxy(t, strings.TrimPrefix(c.Config.Host, "https://"))
	config := rest.CopyConfig(c.Config)
	config.Host = "https://" + proxy.Addr().String()
	s := newConfirmed(t, c, config, c.Namespace(t), Options{Timeout: 200 * time.Millisecond, TTL: 10 * time.Second})
	proxy.hang(true)
	s.clock.SetTime(s.clock.Now().Add(11 * time.Second))
	s.goesOnForReads(t)
	proxy.hang(false)
	testkit.Eventually(t, "writes again", func() error {
		u, err := s.k.Authenticate(bearer(t.Context(), s.token.Value))
		if err != nil {
			return err
		}
		return s.k.Authorize(t.Context(), u, s.push)
	})
}

func testAway(t *testing.T, c *testkit.Cluster) {
	namespace := "away"
	if _, err := c.Client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	s := newConfirmed(t, c, c.Config, namespace, Options{})
	long := newConfirmed(t, c, c.Config, namespace, Options{StaleReads: time.Hour})
	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	t.Run("at once", func(t *testing.T) {
		u, err := s.k.Authenticate(bearer(t.Context(), s.token.Value))
		if err != nil || u.Stale {
			t.Fatalf("got %+v, %v", u, err)
		}
		if err := s.k.Authorize(t.Context(), u, s.pull); err != nil {
			t.Errorf("a read: %v", err)
		}
		wantUnavailable(t, "a write", s.k.Authorize(t.Context(), u, s.push))
	})
	t.Run("for a while", func(t *testing.T) {
		s.clock.SetTime(s.clock.Now().Add(4 * time.Minute))
		s.goesOnForReads(t)
	})
	t.Run("answer", func(t *testing.T) {
		w := httptest.NewRecorder()
		Require(s.k, func(*http.Request) core.Action { return s.push })(http.NotFoundHandler()).ServeHTTP(w, bearer(t.Context(), s.token.Value))
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "unavailable") {
			t.Errorf("%d, %q", w.Code, w.Body)
		}
	})
	t.Run("not for ever", func(t *testing.T) {
		s.clock.SetTime(s.clock.Now().Add(2 * time.Minute))
		_, err := s.k.Authenticate(bearer(t.Context(), s.token.Value))
		wantUnavailable(t, "the token", err)
		wantUnavailable(t, "a read", s.k.Authorize(t.Context(), s.user, s.pull))
	})
	t.Run("not beyond the token's end", func(t *testing.T) {
		long.clock.SetTime(long.token.Expires.Add(-time.Second))
		long.goesOnForReads(t)
		long.clock.SetTime(long.token.Expires.Add(time.Second))
		_, err := long.k.Authenticate(bearer(t.Context(), long.token.Value))
		if !errors.Is(err, core.ErrUnauthenticated) || !strings.Contains(err.Error(), "expired") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("back", func(t *testing.T) {
		if err := c.Restart(); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "writes again", func() error {
			u, err := s.k.Authenticate(bearer(t.Context(), s.token.Value))
			if err != nil {
				return err
			}
			return s.k.Authorize(t.Context(), u, s.push)
		})
	})
}
