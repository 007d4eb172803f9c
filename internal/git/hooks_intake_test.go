package git

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// Senders that announce a body and do not send it cost the others nothing, as
// many as they may be.
func TestSlowHooks(t *testing.T) {
	w := newWorld(t)
	hooks, err := w.Hooks(func(context.Context, string) ([][]byte, error) { return [][]byte{[]byte("secret")}, nil })
	if err != nil {
		t.Fatal(err)
	}
	reading := make(chan struct{}, 1000)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = &announced{r.Body, reading}
		hooks.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	const slow = 200
	for range slow {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST /hooks/github HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: sha256=00\r\nContent-Length: %d\r\n\r\n{", maxHookBody)
	}
	for range slow {
		<-reading
	}
	body := `{"repository":{"clone_url":"https://nowhere.example/x.git"}}`
	code := post(t, server.URL, hookCase{"github", body, map[string]string{"X-GitHub-Event": "push", "X-Hub-Signature-256": sign("secret", body)}})
	if code != http.StatusAccepted {
		t.Errorf("beside %d slow senders: %d", slow, code)
	}
}

// announced says when the body is first read.
type announced struct {
	io.ReadCloser
	reading chan<- struct{}
}

func (a *announced) Read(p []byte) (int, error) {
	select {
	case a.reading <- struct{}{}:
	default:
	}
	return a.ReadCloser.Read(p)
}

func TestIntake(t *testing.T) {
	i := newIntake(5, 3)
	for _, step := range []struct {
		source string
		n      int64
		ok     bool
	}{{"a", 3, true}, {"a", 1, false}, {"b", 2, true}, {"c", 1, false}, {"a", -3, true}, {"c", 3, true}, {"b", -2, true}, {"c", -3, true}} {
		if step.n < 0 {
			i.release(step.source, -step.n)
		} else if err := i.take(step.source, step.n); (err == nil) != step.ok {
			t.Errorf("%+v: %v", step, err)
		}
	}
	if i.held != 0 || len(i.source) != 0 {
		t.Errorf("left over: %+v", i)
	}
}

func TestSourceOf(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1:80": "192.0.2.1", "[::ffff:192.0.2.1]:80": "192.0.2.1", "[2001:db8:1:2:3:4:5:6]:80": "2001:db8:1:2::/64", "pipe": "pipe",
	} {
		if got := sourceOf(remote); got != want {
			t.Errorf("%s: %s, want %s", remote, got, want)
		}
	}
}
