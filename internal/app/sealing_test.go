package app

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
)

// A socket is served in any directory, and over what a killed server has left.
func TestSocketsInLongDirectories(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir) // as the control plane does
	for range 2 {
		l, err := listenUnix(dir, "a.sock")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		group, ctx := errgroup.WithContext(ctx)
		serveListeners(ctx, group, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "here")
		}), []listener{{Listener: l}})

		transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", "a.sock")
		}}
		answer, err := (&http.Client{Transport: transport}).Get("http://a/")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		if err != nil || string(body) != "here" {
			t.Errorf("%q, %v", body, err)
		}
		answer.Body.Close()
		cancel()
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(filepath.Join(dir, "a.sock")); err != nil {
			t.Errorf("the case of one that was left is not tried: %v", err)
		}
	}
}
