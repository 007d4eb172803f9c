package web_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/fairway-cd/fairway/internal/web"
)

// bounded serves h within the bounds.
func bounded(t *testing.T, b web.Bounds, h http.HandlerFunc) string {
	t.Helper()
	mux := http.NewServeMux()
	for pattern, h := range web.Bounded(table{}, b, map[string]http.Handler{"GET /": h, "POST /": h}) {
		mux.Handle(pattern, h)
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

func said(t *testing.T, answer *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestBoundsPassAnswers(t *testing.T) {
	url := bounded(t, web.DeliveryBounds(), func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(w, "moved")
	})
	answer := get(t, url, "good")
	if body := said(t, answer); answer.StatusCode != http.StatusConflict || body != "moved" || answer.Header.Get("Content-Type") != "text/plain" {
		t.Errorf("%s %q %q", answer.Status, body, answer.Header)
	}
	if answer := get(t, url, ""); answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("a stranger is answered %s", answer.Status)
	}
}

// While one request takes the only turn, the next one is told to come back,
// and a stranger still is a stranger; after it the turn is free.
func TestBoundsOfConcurrency(t *testing.T) {
	b := web.DeliveryBounds()
	b.Concurrent, b.Wait = 1, time.Millisecond
	inside, leave := make(chan struct{}, 1), make(chan struct{})
	url := bounded(t, b, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			inside <- struct{}{}
			<-leave
		}
	})
	slow := make(chan *http.Response)
	go func() { slow <- get(t, url+"/slow", "good") }()
	<-inside
	if answer := get(t, url, "good"); answer.StatusCode != http.StatusTooManyRequests || answer.Header.Get("Retry-After") == "" {
		t.Errorf("beside another: %s", answer.Status)
	}
	if answer := get(t, url, "wrong"); answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("a stranger beside another: %s", answer.Status)
	}
	close(leave)
	if answer := <-slow; answer.StatusCode != http.StatusOK {
		t.Errorf("the first: %s", answer.Status)
	}
	// The turn ends a moment after its answer has gone out.
	for get(t, url, "good").StatusCode != http.StatusOK {
	}
}

func TestBoundsOfSizeAndTime(t *testing.T) {
	b := web.DeliveryBounds()
	b.Answer, b.Request, b.Time = 100, 10, 10*time.Millisecond
	url := bounded(t, b, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/large":
			_, _ = io.WriteString(w, strings.Repeat("x", 70))
			_, _ = io.WriteString(w, strings.Repeat("x", 31))
		case "/slow":
			<-r.Context().Done()
			http.Error(w, context.Cause(r.Context()).Error(), http.StatusInternalServerError)
		default:
			if _, err := io.ReadAll(r.Body); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
			}
		}
	})
	if answer := get(t, url+"/large", "good"); answer.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(said(t, answer), "larger than 100 bytes") {
		t.Errorf("a large answer: %s", answer.Status)
	}
	if answer := get(t, url+"/slow", "good"); answer.StatusCode != http.StatusServiceUnavailable || !strings.Contains(said(t, answer), "longer than 10ms") {
		t.Errorf("a slow answer: %s", answer.Status)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("0123456789a"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer good")
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusBadRequest {
		t.Errorf("a large request: %s", answer.Status)
	}
}
