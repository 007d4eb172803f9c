package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"

	"github.com/fairway-cd/fairway/internal/app"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/identity/keyring"
)

// apiClient talks to the HTTP API of an instance.
type apiClient struct {
	server keyring.Server
	http   *http.Client
}

// apiTimeout is more than a server takes for its costliest answer.
const apiTimeout = 2 * time.Minute

// credential adds to requests who makes them.
type credential func(http.RoundTripper) (http.RoundTripper, error)

func bearer(token string) credential {
	return func(next http.RoundTripper) (http.RoundTripper, error) {
		return transport.NewBearerAuthRoundTripper(token, next), nil
	}
}

// newAPIClient is a client that trusts ca besides the system's authorities.
func newAPIClient(server keyring.Server, ca []byte, who credential) (*apiClient, error) {
	client, err := keyring.HTTPClient(ca)
	if err != nil {
		return nil, err
	}
	if client.Transport, err = who(client.Transport); err != nil {
		return nil, fmt.Errorf("reading the credential for %s: %w", server, err)
	}
	client.Timeout = apiTimeout
	return &apiClient{server: server, http: client}, nil
}

// api is a client of the instance's HTTP API: of the server that is named, as
// who logged in there, or else of the instance on this machine, as its
// operator.
func (g *globals) api(context.Context) (*apiClient, error) {
	address, err := g.remote()
	if err != nil {
		return nil, err
	}
	if address != "" {
		return g.remoteAPI(address)
	}
	inst, err := g.instance()
	if err != nil {
		return nil, err
	}
	if err := requireUp(inst); err != nil {
		return nil, err
	}
	server, err := keyring.ParseServer(inst.URL())
	if err != nil {
		return nil, err
	}
	if inst.Config.Kubeconfig != "" {
		// Whose cluster it is has a name there; our account may do little.
		var none *noTokenError
		switch who, err := g.kubeconfigToken(); {
		case err == nil:
			return newAPIClient(server, nil, who)
		case !errors.As(err, &none):
			return nil, err
		}
	}
	token, err := inst.Token()
	if err != nil {
		return nil, err
	}
	return newAPIClient(server, nil, bearer(token))
}

// remoteAPI is a client of a server anywhere, with the credential of a login
// there, else that of the kubeconfig.
func (g *globals) remoteAPI(address string) (*apiClient, error) {
	server, err := keyring.ParseServer(address)
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	ring, err := keyring.Default()
	if err != nil {
		return nil, err
	}
	ca, err := ring.CA(server)
	if err != nil {
		return nil, err
	}
	token, found, err := ring.Token(server)
	if err != nil {
		return nil, err
	}
	if found {
		return newAPIClient(server, ca, bearer(token))
	}
	who, err := g.kubeconfigToken()
	if err != nil {
		return nil, withHint(fmt.Errorf("no credential for %s: %w", server, err),
			"'fairway login "+server.String()+"' keeps one; a token of a ServiceAccount is made by 'kubectl create token NAME --audience=fairway'")
	}
	return newAPIClient(server, ca, who)
}

// noTokenError says that a kubeconfig proves its user to the Kubernetes API
// alone: Fairway has that asked about tokens, and sees nothing else.
type noTokenError struct {
	// has is what there is instead.
	has string
}

func (e *noTokenError) Error() string {
	if e.has == "" {
		return "the kubeconfig has no token"
	}
	return "the kubeconfig has " + e.has + " and no token, and only the Kubernetes API takes that"
}

// Hint implements core.Hinted.
func (e *noTokenError) Hint() string {
	return "'fairway login SERVER' keeps a token; one of a ServiceAccount is made by 'kubectl create token NAME --audience=fairway'"
}

// kubeconfigToken is the token that the kubeconfig has, or gets from a program.
func (g *globals) kubeconfigToken() (credential, error) {
	config, _, err := g.restConfig()
	if err != nil {
		return nil, err
	}
	if config.Impersonate.UserName != "" {
		// The server would take it for who impersonates.
		return nil, errors.New("the kubeconfig impersonates somebody, which only the Kubernetes API understands")
	}
	if config.BearerToken == "" && config.BearerTokenFile == "" && config.ExecProvider == nil && config.AuthProvider == nil {
		none := &noTokenError{}
		switch {
		case len(config.CertData) > 0 || config.CertFile != "":
			none.has = "a client certificate"
		case config.Username != "":
			none.has = "a password"
		}
		return nil, none
	}
	config.Username, config.Password = "", "" // for the API server alone
	return func(next http.RoundTripper) (http.RoundTripper, error) {
		return rest.HTTPWrappersForConfig(config, tokenOnly{next})
	}, nil
}

// tokenOnly refuses requests that have come here without a token: a program of
// the kubeconfig may give a certificate instead.
type tokenOnly struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t tokenOnly) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Authorization") == "" {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, &noTokenError{has: "a program that gives a client certificate"}
	}
	return t.next.RoundTrip(r)
}

func requireUp(inst *app.Instance) error {
	if inst.Running() {
		return nil
	}
	return withHint(errors.New("the instance in "+inst.Dir()+" is not up"), "start it with 'fairway up', or name another with --data")
}

// do sends in as JSON, if it is not nil, and reads the answer into out, if
// that is not nil. An answer that says no is an error with the server's words.
func (c *apiClient) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.server.String()+path, body)
	if err != nil {
		return err
	}
	answer, err := c.http.Do(req)
	if err != nil {
		return keyring.Unreached(c.server, err)
	}
	defer answer.Body.Close()
	const maxAnswer = 64 << 20
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("reading the server's answer: %w", err)
	}
	if len(data) > maxAnswer {
		return &core.TooLargeError{What: "the server's answer", Size: int64(len(data)), Limit: maxAnswer}
	}
	if answer.StatusCode >= 300 {
		return c.refused(answer, data)
	}
	if out == nil || len(data) == 0 {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("reading the server's answer: %w", err)
	}
	return nil
}

// apiError is an answer that says no.
type apiError struct {
	status    int
	msg, hint string
}

func (e *apiError) Error() string { return e.msg }

// Hint implements core.Hinted.
func (e *apiError) Hint() string { return e.hint }

func (c *apiClient) refused(answer *http.Response, body []byte) error {
	var said struct{ Error, Hint string }
	if json.Unmarshal(body, &said) != nil || said.Error == "" {
		said.Error = answer.Status
	}
	if answer.StatusCode == http.StatusUnauthorized {
		said.Hint = "log in with 'fairway login " + c.server.String() + "'"
	}
	return &apiError{answer.StatusCode, said.Error, said.Hint}
}
