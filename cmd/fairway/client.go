package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/fairway-cd/fairway/internal/app"
)

// apiClient talks to the HTTP API of an instance.
type apiClient struct {
	base  string // without a trailing slash
	token string
	http  *http.Client
}

// api is a client of the instance's own API, as its operator.
func (g *globals) api(ctx context.Context) (*apiClient, error) {
	inst, err := g.instance()
	if err != nil {
		return nil, err
	}
	if err := requireUp(inst); err != nil {
		return nil, err
	}
	token, err := inst.Token()
	if err != nil {
		return nil, err
	}
	return &apiClient{base: inst.URL(), token: token, http: &http.Client{Timeout: time.Minute}}, nil
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
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	answer, err := c.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return fmt.Errorf("asking the server at %s: %w", c.base, err)
	}
	defer answer.Body.Close()
	const maxAnswer = 64 << 20
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("reading the server's answer: %w", err)
	}
	if answer.StatusCode >= 300 {
		return apiError(answer, data)
	}
	if out == nil || len(data) == 0 {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("reading the server's answer: %w", err)
	}
	return nil
}

func apiError(answer *http.Response, body []byte) error {
	var said struct{ Error, Hint string }
	if json.Unmarshal(body, &said) != nil || said.Error == "" {
		said.Error = answer.Status
	}
	err := errors.New(said.Error)
	switch {
	case said.Hint != "":
		return withHint(err, said.Hint)
	case answer.StatusCode == http.StatusUnauthorized:
		return withHint(err, "log in with 'fairway login'")
	default:
		return err
	}
}
