package app

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// A client that stops in the middle of a body that is refused unread is left.
func TestPatienceEnds(t *testing.T) {
	server := httptest.NewServer(patient(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no", http.StatusUnauthorized)
	}), 50*time.Millisecond))
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
	said, err := io.ReadAll(conn) // returns when the server closes
	if err != nil || !strings.Contains(string(said), "401 Unauthorized") {
		t.Errorf("%q, %v", said, err)
	}
}

// The bound is on what is received, not on how long an answer takes after it.
func TestPatienceLetsAnswersTakeTheirTime(t *testing.T) {
	const patience = 20 * time.Millisecond
	server := httptest.NewServer(patient(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		time.Sleep(5 * patience)
		fmt.Fprintf(w, "%s %v %v", body, err, r.Context().Err())
	}), patience))
	defer server.Close()
	resp, err := http.Post(server.URL, "text/plain", strings.NewReader("all")) //nolint:noctx // a test's
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if said, err := io.ReadAll(resp.Body); err != nil || string(said) != "all <nil> <nil>" {
		t.Errorf("%q, %v", said, err)
	}
}
