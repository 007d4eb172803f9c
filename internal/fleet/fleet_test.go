package fleet_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
	"github.com/fairway-cd/fairway/internal/drift"
	"github.com/fairway-cd/fairway/internal/fleet"
	"github.com/fairway-cd/fairway/internal/kube"
)

// nowhere is an address at which nobody listens.
func nowhere(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "https://" + l.Addr().String()
}

// started is a fleet that runs, and what it tells of owners.
func started(t *testing.T) (*fleet.Fleet, chan core.Owner) {
	t.Helper()
	client, err := kube.New(&rest.Config{Host: nowhere(t)})
	if err != nil {
		t.Fatal(err)
	}
	f := fleet.New(&fleet.Parts{Client: client, Deployer: deploy.New(client), Watcher: drift.New(client)}, func(*rest.Config, []string) (*fleet.Parts, error) {
		return nil, errors.New("nobody answers, so nothing is to be opened")
	})
	told := make(chan core.Owner, 10)
	f.Tell(func(o core.Owner, _ fleet.News) { told <- o }, func() {})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- f.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return f, told
}

func TestOwnerOfNoCluster(t *testing.T) {
	f, _ := started(t)
	owner := core.Owner{Dialect: core.ArgoCD, Kind: "Application", Namespace: "argocd", Name: "nobody"}
	ref := core.ObjectRef{Version: "v1", Kind: "ConfigMap", Name: "x"}
	outcome, err := f.Apply(t.Context(), deploy.Plan{Owner: owner, Inventory: []core.ObjectRef{ref}})
	if err == nil || !strings.Contains(err.Error(), "is not bound") || len(outcome.Inventory) != 1 {
		t.Errorf("applied to some cluster: %v", err)
	}
	f.Expect(owner, []core.ObjectRef{ref})
	if f.State(owner) != nil {
		t.Error("somebody watches for it")
	}
	if fresh, err := f.Bind(owner, nil); !fresh || err != nil {
		t.Errorf("bound to the home cluster: %v, %v", fresh, err)
	}
	if fresh, err := f.Bind(owner, nil); fresh || err != nil {
		t.Errorf("bound again: %v, %v", fresh, err)
	}
}

func TestClusterIsAway(t *testing.T) {
	f, told := started(t)
	c, err := fleet.FromSecret(secret(nowhere(t), `{"bearerToken":"`+token+`","tlsClientConfig":{"insecure":true}}`))
	if err != nil {
		t.Fatal(err)
	}
	owner := core.Owner{Dialect: core.ArgoCD, Kind: "Application", Namespace: "argocd", Name: "far"}
	fresh, err := f.Bind(owner, c)
	var connecting *fleet.ConnectingError
	if !fresh || !errors.As(err, &connecting) {
		t.Fatalf("bound: %v, %v", fresh, err)
	}
	if got := <-told; got != owner {
		t.Fatalf("told of %s", got)
	}
	_, err = f.Bind(owner, c)
	var away *fleet.AwayError
	if !errors.As(err, &away) || !strings.Contains(err.Error(), `cluster "prod"`) || !strings.Contains(err.Error(), "connection refused") || strings.Contains(err.Error(), token) {
		t.Fatalf("bound to what is away: %v", err)
	}
	if _, err := f.Delete(t.Context(), deploy.Deletion{Owner: owner}); !errors.As(err, &away) {
		t.Errorf("deleted: %v", err)
	}
	if err := f.Reach(owner, nil); !errors.As(err, &connecting) {
		t.Errorf("somebody who looks has moved it: %v", err)
	}
	if leave := f.Enter(owner); leave == nil {
		t.Error("no turn where nobody has one")
	} else {
		leave()
	}

	// It is there for as long as somebody needs it.
	f.Keep([]*fleet.Cluster{c})
	f.Unbind(owner)
	if n := f.Size(); n != 1 {
		t.Errorf("%d clusters, want the one that is kept", n)
	}
	if s := f.Connection(c); s.Phase != fleet.Away || s.Since.IsZero() {
		t.Errorf("it is %+v", s)
	}
	f.Keep(nil)
	if n := f.Size(); n != 0 {
		t.Errorf("%d clusters, and nobody needs one", n)
	}
}

// A cluster that answers, and of which yet no parts can be made, is tried less
// and less often; whoever asks for it does not change that.
func TestPartsThatCannotBeMade(t *testing.T) {
	asked := make(chan struct{}, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/version" {
			_, _ = io.WriteString(w, `{"gitVersion":"v1.36.3"}`)
			return
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	defer server.Close()
	client, err := kube.New(&rest.Config{Host: nowhere(t)})
	if err != nil {
		t.Fatal(err)
	}
	f := fleet.New(&fleet.Parts{Client: client, Deployer: deploy.New(client), Watcher: drift.New(client)}, func(*rest.Config, []string) (*fleet.Parts, error) {
		asked <- struct{}{}
		return nil, errors.New("no parts")
	})
	told := make(chan core.Owner, 10)
	f.Tell(func(o core.Owner, _ fleet.News) { told <- o }, func() {})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- f.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()

	c, err := fleet.FromSecret(secret(server.URL, `{"bearerToken":"`+token+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	owner := core.Owner{Dialect: core.ArgoCD, Kind: "Application", Namespace: "argocd", Name: "far"}
	var connecting *fleet.ConnectingError
	if _, err := f.Bind(owner, c); !errors.As(err, &connecting) {
		t.Fatal(err)
	}
	<-asked
	first := time.Now()
	<-told
	var away *fleet.AwayError
	if _, err := f.Bind(owner, c); !errors.As(err, &away) || !strings.Contains(err.Error(), "no parts") {
		t.Errorf("bound: %v", err)
	}
	<-asked
	// The pause is at least that long: a machine that is slow makes it longer.
	if pause := time.Since(first); pause < 2*time.Second {
		t.Errorf("asked again after %s", pause)
	}
	if len(told) > 0 {
		t.Error("the owner is told again")
	}
}
