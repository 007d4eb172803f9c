package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// delivers says whether the instance serves people as always: git, and the way
// of a commit into the cluster.
func delivers(t *testing.T, work, app, value string) {
	t.Helper()
	shared.push(t, work, map[string]string{"app/cm.yaml": configMap("c", value)})
	shared.want(t, value, "get", "configmap", "c", "-n", app, "-o", "jsonpath={.data.key}")
}

func address(t *testing.T) string {
	t.Helper()
	u, err := url.Parse(shared.status(t).UIURL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

// dial opens a connection that sends some text, and leaves it open.
func dial(t *testing.T, host, text string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := conn.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// Many clients that stop in the middle of a header or of a body block nobody,
// at none of the doors.
func TestSlowClients(t *testing.T) {
	const app, each = "refuse-slow", 150
	work := shared.repository(t, app, map[string]string{"app/cm.yaml": configMap("c", "one")})
	shared.apply(t, application(app, publicGitURL(t)+"/"+app+".git", "app", app))
	shared.want(t, "one", "get", "configmap", "c", "-n", app, "-o", "jsonpath={.data.key}")
	host := address(t)
	var headers []net.Conn
	for range each {
		headers = append(headers, dial(t, host, "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow:"))
		for _, head := range []string{
			"POST /hooks/github HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: sha256=00\r\n",
			"POST /git/" + app + ".git/git-receive-pack HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-git-receive-pack-request\r\n",
			"POST /v2/" + app + "/blobs/uploads/ HTTP/1.1\r\nHost: x\r\n",
			"PUT /api/v1/mirrors HTTP/1.1\r\nHost: x\r\n",
		} {
			dial(t, host, head+"Content-Length: 1000000\r\n\r\n{")
		}
	}
	delivers(t, work, app, "two")
	body := `{"repository":{"clone_url":"https://nowhere.example/x.git"}}`
	if code, said := post(t, "github", body, map[string]string{"X-GitHub-Event": "push", "X-Hub-Signature-256": signature(body, "forged")}); code != http.StatusForbidden {
		t.Errorf("a forged webhook beside slow ones: %d %s", code, said)
	}
	// Who does not finish the header is left: the read ends.
	for _, conn := range headers {
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		for lines := bufio.NewReader(conn); ; {
			if _, err := lines.ReadByte(); err != nil {
				if os.IsTimeout(err) {
					t.Fatal("a half-open header is kept for ever")
				}
				break
			}
		}
	}
}

// Many who watch, and read nothing after the first event, are served beside
// the others; one user has so many streams and no more.
func TestManyStreams(t *testing.T) {
	const app, users, each = "refuse-streams", 5, 100
	work := shared.repository(t, app, map[string]string{"app/cm.yaml": configMap("c", "one")})
	shared.apply(t, application(app, publicGitURL(t)+"/"+app+".git", "app", app))
	shared.want(t, "one", "get", "configmap", "c", "-n", app, "-o", "jsonpath={.data.key}")
	host := address(t)
	open := func(token string) string {
		t.Helper()
		conn := dial(t, host, "GET /api/v1/events HTTP/1.1\r\nHost: "+host+"\r\nAuthorization: Bearer "+token+"\r\n\r\n")
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(line)
	}
	for user := range users {
		account := fmt.Sprintf("refuse-streams-%d", user)
		shared.kubectl(t, "create", "serviceaccount", account)
		shared.kubectl(t, "create", "clusterrolebinding", account, "--clusterrole=fairway-viewer", "--serviceaccount=default:"+account)
		token := shared.kubectl(t, "create", "token", account, "--audience=fairway")
		for i := range each {
			if line := open(token); line != "HTTP/1.1 200 OK" {
				t.Fatalf("stream %d: %q", i, line)
			}
		}
		if line := open(token); !strings.HasPrefix(line, "HTTP/1.1 429 ") {
			t.Errorf("one stream more: %q", line)
		}
	}
	delivers(t, work, app, "two")
	t.Logf("with %d streams the server has %s of memory", users*each, resident(t, shared.status(t).PID))
}

// Clients that open connections and say nothing are served up to a number; the
// next ones are told that there are too many, and when those leave there is
// room again.
func TestTooManyConnections(t *testing.T) {
	host := address(t)
	probe := func() string {
		conn, err := net.Dial("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: %s\r\n\r\n", host)
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return err.Error()
		}
		defer answer.Body.Close()
		said, err := io.ReadAll(answer.Body)
		if err != nil {
			return err.Error()
		}
		return answer.Status + " " + answer.Header.Get("Retry-After") + " " + string(said)
	}
	var silent []net.Conn
	said := probe()
	for ; strings.HasPrefix(said, "200 ") && len(silent) < 10_000; said = probe() {
		for range 100 { // each is left after ten seconds
			silent = append(silent, dial(t, host, "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow:"))
		}
	}
	if !strings.HasPrefix(said, "503 Service Unavailable 5 ") || !strings.Contains(said, "as many connections as it takes") {
		t.Errorf("with %d silent connections: %s", len(silent), said)
	}
	for _, conn := range silent {
		conn.Close()
	}
	eventually(t, func() string {
		if said := probe(); !strings.HasPrefix(said, "200 ") {
			return said
		}
		return ""
	})
}

// resident is what a process holds in memory, as the kernel says it.
func resident(t *testing.T, pid int) string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`VmRSS:\s*(.*)`).FindSubmatch(data)
	if m == nil {
		t.Fatal("the kernel does not say")
	}
	return string(m[1])
}

// While the API server hangs, reads that were just allowed go on, and all else
// is refused with the reason. When it is back, so is everything.
func TestAPIServerAway(t *testing.T) {
	own := newInstance(shared.bin, filepath.Join(t.TempDir(), "data"))
	t.Cleanup(func() { _, _ = own.run(context.Background(), "down") })
	own.must(t, "up", "--nodes", "kwok", "--port", fmt.Sprint(freePort()))
	work := own.repository(t, "away", map[string]string{"a.yaml": configMap("a", "one")})
	head := own.git(t, work, "rev-parse", "HEAD")
	own.git(t, work, "ls-remote", "origin")
	own.commit(t, work, map[string]string{"a.yaml": configMap("a", "two")})

	pid := own.status(t).ClusterPID
	if pid <= 0 {
		t.Fatal("no control plane")
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	time.Sleep(11 * time.Second) // what is remembered while all is well is forgotten after ten
	if got := own.git(t, work, "ls-remote", "origin", "refs/heads/main"); !strings.HasPrefix(got, head) {
		t.Errorf("a read that was just allowed: %q", got)
	}
	_, err := own.exec(t.Context(), work, "git", "push", "-q", "origin", "HEAD:main")
	if err == nil || !strings.Contains(err.Error(), "503") || !strings.Contains(err.Error(), "the Kubernetes API server is unavailable") {
		t.Errorf("a push: %v", err)
	}
	_, err = own.exec(t.Context(), work, "git", "ls-remote", strings.Replace(own.status(t).GitURL, "@", "x@", 1)+"/away.git")
	if err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("a token that was never seen: %v", err)
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		if _, err := own.exec(t.Context(), work, "git", "push", "-q", "origin", "HEAD:main"); err != nil {
			return err.Error()
		}
		return ""
	})
}
