package build_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"golang.org/x/sync/errgroup"

	"github.com/fairway-cd/fairway/internal/build"
	"github.com/fairway-cd/fairway/internal/build/detect"
	"github.com/fairway-cd/fairway/internal/build/engine"
	"github.com/fairway-cd/fairway/internal/testkit"
)

// TestMain is the engine where it was started as one.
func TestMain(m *testing.M) {
	if len(os.Args) > 3 && os.Args[1] == build.EngineCommand {
		if err := serve(os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func serve(root string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return engine.Serve(ctx, engine.Options{Root: root, Runtime: os.Getenv("FAIRWAY_RUNC"), Idle: 3 * time.Second})
}

// runtime is the runc that make build has made, or the machine's.
var runtime = sync.OnceValues(func() (string, error) {
	path, err := filepath.Abs("../../bin/node/runc")
	if err == nil {
		if _, err = os.Stat(path); err == nil {
			return path, nil
		}
	}
	return exec.LookPath("runc")
})

// builder is one on an engine of its own, which is gone with the test.
func builder(t *testing.T) *build.Builder {
	t.Helper()
	runc, err := runtime()
	if err != nil || os.Getuid() != 0 {
		t.Fatalf("builds need root and runc (make build makes one): %v", err)
	}
	t.Setenv("FAIRWAY_RUNC", runc)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.MkdirTemp("", "fairway-build-")
	if err != nil {
		t.Fatal(err)
	}
	b := &build.Builder{Engine: build.Engine{Root: root, Program: self}, Keychain: authn.DefaultKeychain}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := b.Engine.Stop(ctx); err != nil {
			t.Error(err)
		}
		if log, err := os.ReadFile(filepath.Join(root, "engine.log")); t.Failed() {
			t.Logf("the engine's log: %s, %v", log, err)
		}
		if err := os.RemoveAll(root); err != nil {
			t.Error(err)
		}
	})
	return b
}

// probe is the program of testdata/probe.
var probe = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "probe")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command("go", "build", "-ldflags", "-s -w", "-o", filepath.Join(dir, "probe"), "./testdata/probe")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return os.ReadFile(filepath.Join(dir, "probe"))
})

// source is a directory with these files, and the probe.
func source(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	program, err := probe()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "probe"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func doBuild(t *testing.T, b *build.Builder, r build.Request) (*build.Result, string, error) {
	t.Helper()
	var log bytes.Buffer
	res, err := b.Build(t.Context(), r, build.Progress{Out: &log, Mode: "plain"})
	return res, log.String(), err
}

const everything = `# syntax=docker/dockerfile:1
FROM scratch AS made
ARG TEXT=none
COPY probe /probe
RUN ["/probe", "write", "/made", "by a stage"]
RUN --mount=type=secret,id=token ["/probe", "secret", "/run/secrets/token"]

FROM scratch
ARG TEXT
COPY --from=made /made /made
COPY <<here /here
a heredoc
here
COPY . /src
ENV TEXT=$TEXT
LABEL of=everything
ENTRYPOINT ["/src/probe"]
`

// The same source makes the same image: by another engine, in another
// directory, at another time.
func TestDockerfile(t *testing.T) {
	var digests []string
	for i := range 2 {
		b := builder(t)
		dir := source(t, map[string]string{"Dockerfile": everything, "kept.txt": "kept", "left.txt": "left", ".dockerignore": "left.txt\n"})
		secret := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(secret, []byte("s3cret-value"), 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(time.Duration(i) * -time.Hour)
		if err := os.Chtimes(filepath.Join(dir, "kept.txt"), at, at); err != nil {
			t.Fatal(err)
		}
		dest := filepath.Join(t.TempDir(), "image.tar")
		r := build.Request{
			Context: dir, Args: map[string]string{"TEXT": "given"}, Epoch: time.Unix(1700000000, 0),
			Secrets: []build.Secret{{ID: "token", File: secret}},
			Outputs: []build.Output{{Kind: build.OCI, Dest: dest}},
		}
		res, log, err := doBuild(t, b, r)
		if err != nil {
			t.Fatalf("%v\n%s", err, log)
		}
		if strings.Contains(log, "s3cret-value") {
			t.Error("the secret is in the log")
		}
		digests = append(digests, res.Digest)
		names, config := image(t, dest)
		for name, want := range map[string]bool{"made": true, "here": true, "src/kept.txt": true, "src/left.txt": false, "run/secrets/token": false} {
			if names[name] != want {
				t.Errorf("%s is in the image: %v", name, names[name])
			}
		}
		if !strings.Contains(config, "TEXT=given") || !strings.Contains(config, `"of":"everything"`) || !strings.Contains(config, "2023-11-14T22:13:20Z") {
			t.Errorf("the configuration: %s", config)
		}
		again, log, err := doBuild(t, b, r)
		if err != nil || again.Digest != res.Digest || !strings.Contains(log, "CACHED") {
			t.Errorf("again: %v, %v\n%s", again, err, log)
		}
	}
	if digests[0] != digests[1] {
		t.Errorf("two engines made %v", digests)
	}
}

// image is what is in an OCI layout: the files of all layers, and the
// configuration.
func image(t *testing.T, path string) (files map[string]bool, config string) {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("tar", "-xf", path, "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	read := func(digest string, into any) []byte {
		data, err := os.ReadFile(filepath.Join(dir, "blobs", strings.Replace(digest, ":", "/", 1)))
		if err == nil && into != nil {
			err = json.Unmarshal(data, into)
		}
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	type descriptor struct{ Digest string }
	var index struct{ Manifests []descriptor }
	data, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err == nil {
		err = json.Unmarshal(data, &index)
	}
	if err != nil || len(index.Manifests) != 1 {
		t.Fatalf("the index: %s, %v", data, err)
	}
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	read(index.Manifests[0].Digest, &manifest)
	files = map[string]bool{}
	for _, l := range manifest.Layers {
		blob := filepath.Join(dir, "blobs", strings.Replace(l.Digest, ":", "/", 1))
		out, err := exec.Command("tar", "-tzf", blob).Output()
		if err != nil {
			t.Fatal(err)
		}
		for name := range strings.Lines(string(out)) {
			files[strings.TrimSpace(name)] = true
		}
	}
	return files, string(read(manifest.Config.Digest, nil))
}

// What a build must not reach: the machine it runs on, by whatever name.
func TestNetwork(t *testing.T) {
	reached := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { reached <- r.RemoteAddr }))
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	addresses := []string{"127.0.0.1:" + port, "localhost:" + port, "[::1]:" + port, "0.0.0.0:" + port, "169.254.169.254:80"}
	own, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	all, err := net.Listen("tcp", ":0") // on each address of this machine
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = http.Serve(all, server.Config.Handler) }()
	defer all.Close()
	_, anywhere, _ := net.SplitHostPort(all.Addr().String())
	for _, a := range own {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil {
			addresses = append(addresses, net.JoinHostPort(n.IP.String(), anywhere))
		}
	}
	b := builder(t)
	run, err := json.Marshal(append([]string{"/probe", "refused"}, addresses...))
	if err != nil {
		t.Fatal(err)
	}
	dir := source(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY probe /probe\nRUN " + string(run) + "\n"})
	for _, offline := range []bool{false, true} {
		_, log, err := doBuild(t, b, build.Request{Context: dir, Offline: offline})
		if err != nil {
			t.Errorf("offline %v: %v\n%s", offline, err, log)
		}
	}
	if len(reached) > 0 {
		t.Errorf("%s was let through", <-reached)
	}
}

// Errors are one message with the lines they are of, and a hint.
func TestErrors(t *testing.T) {
	b := builder(t)
	for name, c := range map[string]struct{ dockerfile, says string }{
		"unknown instruction":    {"FROM scratch\n\nCOPYY a b\n", ">>> COPYY a b"},
		"no such file":           {"FROM scratch\nCOPY nothing /x\n", ">>> COPY nothing /x"},
		"a step that fails":      {"FROM scratch\nCOPY probe /probe\nRUN [\"/probe\", \"secret\", \"/no\"]\n", "exit code: 1"},
		"a base that is nowhere": {"FROM nowhere.invalid/at-all:1\n", "the base image nowhere.invalid/at-all:1 cannot be had"},
		"no such stage":          {"FROM scratch\nCOPY --from=other /a /b\n", "other"},
		"empty":                  {"", "the Dockerfile cannot be empty"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := source(t, map[string]string{"Dockerfile": c.dockerfile})
			_, log, err := doBuild(t, b, build.Request{Context: dir})
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v\n%s", err, log)
			}
		})
	}
	t.Run("nowhere", func(t *testing.T) {
		_, _, err := doBuild(t, b, build.Request{Context: filepath.Join(t.TempDir(), "none")})
		if err == nil || !errors.As(err, new(*build.UsageError)) {
			t.Error(err)
		}
	})
}

// A build that is cancelled stops at once, and leaves nothing running.
func TestCancel(t *testing.T) {
	b := builder(t)
	dir := source(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY probe /cancelled-probe\nRUN [\"/cancelled-probe\", \"sleep\"]\n"})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for ctx.Err() == nil {
			if running("/cancelled-probe") {
				cancel()
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	_, err := b.Build(ctx, build.Request{Context: dir}, build.Progress{Out: io.Discard, Mode: "quiet"})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	testkit.Eventually(t, "the step to be gone", func() error {
		if running("/cancelled-probe") {
			return errors.New("it runs")
		}
		return nil
	})
	if _, log, err := doBuild(t, b, build.Request{Context: source(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY probe /p\n"})}); err != nil {
		t.Errorf("the next build: %v\n%s", err, log)
	}
}

// running says whether a process of this program is there.
func running(program string) bool { return len(processes(program)) > 0 }

// processes are those that have this among their arguments.
func processes(arg string) []int {
	var pids []int
	links, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, l := range links {
		data, err := os.ReadFile(l)
		if err != nil || !slices.Contains(strings.Split(string(data), "\x00"), arg) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(l))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// What would be done is said, and nothing is done: it needs no engine.
func TestExplain(t *testing.T) {
	dir := source(t, map[string]string{"Dockerfile": everything})
	plan, err := build.Explain(build.Request{Context: dir}, detect.Options{})
	if err != nil || len(plan.Stages) != 2 || plan.Stages[0] != (build.Stage{Name: "made", From: "scratch", Steps: 4}) {
		t.Errorf("%+v, %v", plan, err)
	}
	dir = source(t, map[string]string{"package.json": `{"main": "x.js"}`})
	if plan, err = build.Explain(build.Request{Context: dir}, detect.Options{}); err != nil || plan.Project == nil || plan.Project.Kind != detect.Node {
		t.Errorf("%+v, %v", plan, err)
	}
	// A link that leads out of the context is no file of the project's.
	dir = source(t, nil)
	if err := os.Symlink("/etc/hostname", filepath.Join(dir, "go.mod")); err != nil {
		t.Fatal(err)
	}
	if plan, err = build.Explain(build.Request{Context: dir}, detect.Options{}); err == nil {
		t.Errorf("%+v", plan)
	}
	for name, dockerfile := range map[string]string{"no instruction": "FROM scratch\nCOPYY a b\n", "empty": ""} {
		dir = source(t, map[string]string{"Dockerfile": dockerfile})
		if plan, err = build.Explain(build.Request{Context: dir}, detect.Options{}); err == nil {
			t.Errorf("%s: %+v", name, plan)
		}
	}
}

// Who comes at the same time, and after an engine that was killed, gets the one
// engine that there is.
func TestTogether(t *testing.T) {
	b := builder(t)
	dir := source(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY probe /p\n"})
	for range 2 {
		var group errgroup.Group
		for range 6 {
			group.Go(func() error {
				_, err := b.Build(t.Context(), build.Request{Context: dir}, build.Progress{Out: io.Discard, Mode: "quiet"})
				return err
			})
		}
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
		for _, pid := range processes(b.Engine.Root) {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		}
		testkit.Eventually(t, "the engine to be gone", func() error {
			if pids := processes(b.Engine.Root); len(pids) > 0 {
				return fmt.Errorf("%d is there", pids)
			}
			return nil
		})
	}
}
