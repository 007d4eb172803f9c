package main

import (
	"context"
	"fmt"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/fairway-cd/fairway/api"
)

// contest is where a rival runs.
type contest struct {
	*fleet
	ports map[string]string
	dir   string
	// end ends the run, and says why.
	end context.CancelCauseFunc
}

// startCluster starts the embedded Kubernetes alone, with the definitions of a
// rival, and ours of what these leave out.
func (r *contest) startCluster(ctx context.Context, kinds []definition) (stop func(), err error) {
	program := os.Getenv("FAIRWAY_CLUSTER")
	if program == "" {
		program = filepath.Join(filepath.Dir(r.bin), "fairway-cluster")
	}
	ready := filepath.Join(r.dir, "ready")
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return nil, err
	}
	pid, stop, err := r.start(ctx, program, []string{"control-plane", "--data", r.data, "--address", "127.0.0.1", "--port", r.freePort(), "--ready-file", ready})
	if err != nil {
		return nil, err
	}
	r.cluster = pid
	err = r.eventually(ctx, "the cluster is ready", func() (bool, error) {
		_, err := os.Stat(ready)
		return err == nil, nil
	})
	if err == nil {
		r.kubeconfig = filepath.Join(r.data, "admin.kubeconfig")
		err = r.define(ctx, kinds)
	}
	if err != nil {
		stop()
	}
	return stop, err
}

func (r *contest) define(ctx context.Context, kinds []definition) error {
	cfg, err := clientcmd.BuildConfigFromFlags("", r.kubeconfig)
	if err != nil {
		return err
	}
	cfg.QPS = -1
	if r.client, err = kubernetes.NewForConfig(cfg); err != nil {
		return err
	}
	if err := define(ctx, cfg, kinds); err != nil {
		return err
	}
	_, err = api.Install(ctx, cfg)
	return err
}

// start starts a program, with its output in a file. One that ends before it is
// stopped ends the run.
func (r *contest) start(ctx context.Context, program string, args []string) (pid int, stop func(), err error) {
	log, err := os.Create(filepath.Join(r.dir, filepath.Base(program)+".log"))
	if err != nil {
		return 0, nil, err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, program, args...)
	// Flux's controllers know no flag for the kubeconfig. Argo CD's take theirs for
	// https://kubernetes.default.svc too if they are told so, and its repository
	// server has directories of its image as defaults.
	cmd.Env = append(slices.Clone(r.env), "KUBECONFIG="+r.kubeconfig, "RUNTIME_NAMESPACE="+fluxNamespace,
		"ARGOCD_CONTROLLER_REPLICAS=1", "ARGOCD_FAKE_IN_CLUSTER=true", "ARGOCD_GPG_ENABLED=false", "TMPDIR="+r.dir)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return 0, nil, err
	}
	var stopping atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := cmd.Wait(); !stopping.Load() {
			r.end(fmt.Errorf("%s ended: %w\n%s", filepath.Base(program), err, tail(log.Name())))
		}
	}()
	return cmd.Process.Pid, func() {
		stopping.Store(true)
		_ = cmd.Process.Signal(os.Interrupt)
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			<-done
		}
	}, nil
}

// tail is the end of a file.
func tail(name string) string {
	data, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-2000):])
}

// serveGit serves an empty repository over HTTP, to which one may push.
func (r *contest) serveGit(ctx context.Context) (stop func(), err error) {
	root := filepath.Join(r.dir, "git")
	repo := filepath.Join(root, "fleet.git")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, err
	}
	for _, args := range [][]string{{"init", "-q", "--bare", "-b", "main", repo}, {"-C", repo, "config", "http.receivepack", "true"}} {
		if _, err := r.exec(ctx, "", "git", args...); err != nil {
			return nil, err
		}
	}
	path, err := r.exec(ctx, "", "git", "--exec-path")
	if err != nil {
		return nil, err
	}
	server := httptest.NewServer(&cgi.Handler{
		Path: filepath.Join(path, "git-http-backend"), Root: "/git",
		Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1"},
	})
	r.base, r.gitURL = server.URL, server.URL+"/git"
	return server.Close, nil
}

// port is one of the run, the same each time it is asked for by that name.
func (r *contest) port(name string) string {
	if r.ports[name] == "" {
		r.ports[name] = r.freePort()
	}
	return r.ports[name]
}
