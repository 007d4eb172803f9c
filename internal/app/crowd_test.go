package app

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/fairway-cd/fairway/internal/testkit"
)

// crowded serves with bounds on connections; a request for /hold is held until
// the test ends.
func crowded(t *testing.T, limit, more int) (address string) {
	t.Helper()
	hold := make(chan struct{})
	server := httptest.NewUnstartedServer(refuseLate(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "served")
		if r.URL.Path == "/hold" {
			_ = http.NewResponseController(w).Flush()
			select {
			case <-hold:
			case <-r.Context().Done():
			}
		}
	})))
	bound(server.Config, limit, more)
	server.Start()
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(hold) })
	return server.Listener.Addr().String()
}

// request sends one over a connection of its own, which stays open.
func request(t *testing.T, address, path string) (net.Conn, *http.Response, error) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	return conn, answer, err
}

// With all connections at work, the next ones are told so and closed, those
// beyond are closed, and when one ends there is room.
func TestTooManyConnections(t *testing.T) {
	const limit, more = 4, 2
	address := crowded(t, limit, more)
	var first net.Conn
	for range limit {
		conn, answer, err := request(t, address, "/hold")
		if err != nil || answer.StatusCode != http.StatusOK {
			t.Fatalf("within the limit: %v, %v", answer, err)
		}
		if first == nil {
			first = conn
		}
	}
	conn, answer, err := request(t, address, "/")
	if err != nil || answer.StatusCode != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" || !answer.Close {
		t.Fatalf("one more: %v, %v", answer, err)
	}
	if said, err := io.ReadAll(answer.Body); err != nil || !strings.Contains(string(said), "as many connections as it takes") {
		t.Errorf("one more: %q, %v", said, err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("it was not closed: %v", err)
	}
	var silent []net.Conn // those that say nothing count as well
	for range more {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		silent = append(silent, conn)
	}
	testkit.Eventually(t, "a connection that is not answered", func() error {
		if _, answer, err := request(t, address, "/"); err == nil {
			return errors.New(answer.Status)
		}
		return nil
	})
	first.Close()
	for _, conn := range silent {
		conn.Close()
	}
	testkit.Eventually(t, "room", func() error {
		_, answer, err := request(t, address, "/")
		if err == nil && answer.StatusCode != http.StatusOK {
			err = errors.New(answer.Status)
		}
		return err
	})
}

// Connections that wait for their next request are closed when it gets
// crowded, and kept when it does not.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	address := crowded(t, 4, 2)
	idle, answer, err := request(t, address, "/")
	if err != nil || answer.StatusCode != http.StatusOK || answer.Close {
		t.Fatalf("alone: %v, %v", answer, err)
	}
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, answer, err := request(t, address, "/hold"); err != nil || answer.StatusCode != http.StatusOK {
			t.Fatalf("at work: %v, %v", answer, err)
		}
	}
	if _, err := idle.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the idle connection was kept: %v", err)
	}
	if _, answer, err := request(t, address, "/"); err != nil || answer.StatusCode != http.StatusOK || !answer.Close {
		t.Errorf("in the place of the idle one: %v, %v", answer, err)
	}
}
