package keyring

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/docker/cli/cli/config"

	"github.com/fairway-cd/fairway/internal/identity/certs"
)

// TestMain lets this binary be the credential helper that it configures: git
// runs it as PROGRAM credential OPERATION.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "credential" {
		ring, err := Default()
		if err == nil {
			err = ring.Help(os.Args[2], os.Stdin, os.Stdout)
		}
		if err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// newHome gives the test a home of its own, with the user's helper that must
// not be asked.
func newHome(t *testing.T) (ring *Keyring, home string) {
	t.Helper()
	home = t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(home, ".config"))
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	t.Setenv("GIT_TERMINAL_PROMPT", "0")
	// Docker's library reads DOCKER_CONFIG once in a process.
	config.SetDir(filepath.Join(home, ".docker"))
	runGit(t, "", "config", "--global", "credential.helper", "store")
	ring, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	return ring, home
}

func runGit(t *testing.T, in string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Stdin = strings.NewReader(in)
	out, err := cmd.Output()
	return string(out), err
}

func mustParse(t *testing.T, text string) Server {
	t.Helper()
	s, err := ParseServer(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// program is a path to this binary that a careless shell command would break.
func program(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "it's $(a) path")
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestGitAsksUs(t *testing.T) {
	ring, home := newHome(t)
	server, path := mustParse(t, "localhost:8420"), program(t)
	for range 2 { // logging in twice leaves one helper
		if err := ring.Put(server, "s3cret"); err != nil {
			t.Fatal(err)
		}
		if err := ring.UseInGit(t.Context(), server, path, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, host := range []string{"localhost:8420", "127.0.0.1:8420"} {
		out, err := runGit(t, "protocol=http\nhost="+host+"\npath=git/web-app.git\n\n", "credential", "fill")
		if err != nil || !strings.Contains(out, "password=s3cret\n") || !strings.Contains(out, "username=fairway\n") {
			t.Errorf("%s: %q, %v", host, out, err)
		}
	}
	if out, err := runGit(t, "protocol=http\nhost=localhost:9999\n\n", "credential", "fill"); err == nil {
		t.Errorf("another server gets %q", out)
	}
	// git says approve after each success: the user's own helper gets no copy.
	if _, err := runGit(t, "protocol=http\nhost=localhost:8420\nusername=fairway\npassword=s3cret\n\n", "credential", "approve"); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(home, ".git-credentials")); err == nil {
		t.Errorf("a copy was kept: %q", data)
	}
	config, err := os.ReadFile(filepath.Join(home, ".gitconfig"))
	if err != nil || strings.Contains(string(config), "s3cret") {
		t.Errorf("git's configuration has the token: %v", err)
	}

	reject := func(password string) (kept bool) {
		if _, err := runGit(t, "protocol=http\nhost=127.0.0.1:8420\nusername=fairway\npassword="+password+"\n\n", "credential", "reject"); err != nil {
			t.Fatal(err)
		}
		_, kept, err := ring.Token(server)
		if err != nil {
			t.Fatal(err)
		}
		return kept
	}
	if !reject("typed-by-hand") {
		t.Error("forgot the token because another was wrong")
	}
	if reject("s3cret") {
		t.Error("kept a token that the server refused")
	}
	for range 2 {
		if err := ring.LeaveGit(t.Context(), server); err != nil {
			t.Fatal(err)
		}
	}
	if config, err := os.ReadFile(filepath.Join(home, ".gitconfig")); err != nil || strings.Contains(string(config), "8420\"]\n\thelper") {
		t.Errorf("the helper is left: %q, %v", config, err)
	}
}

func TestKeyringIsPrivateAndWhole(t *testing.T) {
	ring, _ := newHome(t)
	// Several logins at once lose none.
	var all sync.WaitGroup
	names := []string{"a.example", "b.example", "c.example", "d.example"}
	for _, name := range names {
		all.Go(func() {
			if err := ring.Put(mustParse(t, name), "token-"+name); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, name := range names {
		if token, found, err := ring.Token(mustParse(t, "https://"+name+"/git")); err != nil || !found || token != "token-"+name {
			t.Errorf("%s: %q, %v, %v", name, token, found, err)
		}
	}
	info, err := os.Stat(ring.Path())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := ring.Delete(mustParse(t, "a.example")); err != nil {
		t.Fatal(err)
	}
	if _, found, _ := ring.Token(mustParse(t, "a.example")); found {
		t.Error("not forgotten")
	}
	if err := os.WriteFile(ring.Path(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ring.Put(mustParse(t, "a.example"), "x"); err == nil {
		t.Error("a broken keyring was overwritten")
	}
}

func TestRegistryClients(t *testing.T) {
	_, home := newHome(t)
	path := filepath.Join(home, ".docker", "config.json")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	before := `{"auths": {"other.example": {"auth": "YTpi"}}, "currentContext": "mine"}`
	if err := os.WriteFile(path, []byte(before), 0o644); err != nil {
		t.Fatal(err)
	}
	server := mustParse(t, "localhost:8420")
	if err := UseInRegistryClients(server, "s3cret"); err != nil {
		t.Fatal(err)
	}
	read := func() string {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	// ZmFpcndheTpzM2NyZXQ= is fairway:s3cret.
	for _, want := range []string{"localhost:8420", "127.0.0.1:8420", "ZmFpcndheTpzM2NyZXQ=", "other.example", `"currentContext": "mine"`} {
		if !strings.Contains(read(), want) {
			t.Errorf("no %s in %s", want, read())
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := LeaveRegistryClients(server); err != nil {
		t.Fatal(err)
	}
	if got := read(); strings.Contains(got, "8420") || !strings.Contains(got, "other.example") {
		t.Errorf("left: %s", got)
	}
}

// TestCredentialStore has a store configured, as most desktops do.
func TestCredentialStore(t *testing.T) {
	_, home := newHome(t)
	bin := t.TempDir()
	script := "#!/bin/sh\nprintf '%s ' \"$1\" >> " + home + "/log; cat >> " + home + "/log\n"
	if err := os.WriteFile(filepath.Join(bin, "docker-credential-mine"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	path := filepath.Join(home, ".docker", "config.json")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(`{"credsStore": "mine"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := UseInRegistryClients(mustParse(t, "https://fairway.example"), "s3cret"); err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(filepath.Join(home, "log"))
	if err != nil || !strings.Contains(string(log), "store ") || !strings.Contains(string(log), "s3cret") {
		t.Errorf("the store got %q, %v", log, err)
	}
	if data, err := os.ReadFile(path); err != nil || strings.Contains(string(data), "czNjcmV0") {
		t.Errorf("the file has it too: %s, %v", data, err)
	}
}

func TestVerify(t *testing.T) {
	authority, err := certs.Generate(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	answers := http.NewServeMux()
	answers.HandleFunc("GET /v2/", func(w http.ResponseWriter, r *http.Request) {
		switch _, password, _ := r.BasicAuth(); password {
		case "good":
		case "elsewhere":
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		default:
			w.WriteHeader(http.StatusUnauthorized)
			w.Write([]byte(`{"errors":[{"code":"UNAUTHORIZED","message":"the token expired"}]}`))
		}
	})
	answers.HandleFunc("/elsewhere", func(http.ResponseWriter, *http.Request) { t.Error("the redirection was followed") })
	server := httptest.NewUnstartedServer(answers)
	server.TLS = certs.Config(authority)
	server.StartTLS()
	defer server.Close()
	_, port, _ := strings.Cut(server.Listener.Addr().String(), ":")
	s := mustParse(t, "https://localhost:"+port)

	// A name below localhost is found without a name server; the certificate is
	// for others.
	var elsewhere *UntrustedError
	if err := Verify(t.Context(), mustParse(t, "https://fairway.localhost:"+port), "good", authority.CA()); !errors.As(err, &elsewhere) {
		t.Errorf("a name below localhost: %v", err)
	}
	if err := Verify(t.Context(), s, "good", authority.CA()); err != nil {
		t.Error(err)
	}
	var refused *RefusedError
	if err := Verify(t.Context(), s, "bad", authority.CA()); !errors.As(err, &refused) || refused.Said != "the token expired" {
		t.Errorf("bad token: %v", err)
	}
	if err := Verify(t.Context(), s, "elsewhere", authority.CA()); err == nil {
		t.Errorf("redirection: %v", err)
	}
	var untrusted *UntrustedError
	if err := Verify(t.Context(), s, "good", nil); !errors.As(err, &untrusted) {
		t.Errorf("unknown authority: %v", err)
	}
}

func TestParseServer(t *testing.T) {
	for text, want := range map[string]string{
		"localhost:8420": "http://localhost:8420", "127.0.0.1": "http://127.0.0.1", "[::1]:80": "http://[::1]",
		"fairway.example": "https://fairway.example", "HTTPS://Fairway.Example:443/git/": "https://fairway.example",
		"https://localhost:8443": "https://localhost:8443", "192.0.2.1:8443": "https://192.0.2.1:8443",
	} {
		if s, err := ParseServer(text); err != nil || s.String() != want {
			t.Errorf("%q: %q, %v; want %q", text, s, err, want)
		}
	}
	for _, text := range []string{"", "http://fairway.example", "ftp://x", "https://", "https://u:p@x", "a b", "https://x\ny", "://", "/path"} {
		var refused *ServerError
		if s, err := ParseServer(text); !errors.As(err, &refused) {
			t.Errorf("%q: taken as %q, %v", text, s, err)
		}
	}
}

func FuzzParseServer(f *testing.F) {
	for _, seed := range []string{"localhost:8420", "https://x.example:443/p", "[::1]", "u@h", "a:b:c"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseServer(text)
		if err != nil {
			return
		}
		if strings.ContainsAny(s.String(), "\n\"' \\@") || strings.Contains(s.Host(), "/") {
			t.Fatalf("%q is %q", text, s)
		}
		if again, err := ParseServer(s.String()); err != nil || again != s {
			t.Fatalf("%q is %q, which is %q, %v", text, s, again, err)
		}
	})
}

func FuzzReadRequest(f *testing.F) {
	f.Add("protocol=https\nhost=x\npassword=p=q\n\nrest")
	f.Add("junk")
	f.Add("=\n")
	f.Fuzz(func(t *testing.T, text string) {
		req, err := readRequest(strings.NewReader(text))
		if err == nil && strings.Contains(req.host+req.protocol+req.password, "\n") {
			t.Fatalf("%+v", req)
		}
	})
}
