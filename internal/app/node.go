package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/fairway-cd/fairway/internal/identity"
	"github.com/fairway-cd/fairway/internal/identity/certs"
)

// nodePlan is the cluster's addresses, as `fairway-cluster node plan` says
// them, and whether there is a real node.
type nodePlan struct {
	real bool

	ClusterCIDR string `json:"clusterCIDR"`
	ServiceCIDR string `json:"serviceCIDR"`
	HostAddress string `json:"hostAddress"`
}

// planNode settles the embedded cluster's addresses, which stay the same from
// then on, and decides whether there will be a real node. Without one the
// instance says why.
func (s *Server) planNode(ctx context.Context, program string) (plan nodePlan, err error) {
	out, err := exec.CommandContext(ctx, program, "node", "plan", "--data", s.inst.path("node")).Output()
	if err != nil {
		return plan, fmt.Errorf("planning the cluster's network: %w", withStderr(err))
	}
	if err := json.Unmarshal(out, &plan); err != nil {
		return plan, fmt.Errorf("planning the cluster's network: %w", err)
	}
	mode := s.inst.Config.Nodes
	if mode == NodesKWOK {
		return plan, nil
	}
	reason, err := nodeSupported(ctx, program)
	switch {
	case err != nil:
		return plan, err
	case reason == "":
		plan.real = true
	case mode == NodesReal:
		return plan, &StartError{reason, "use --nodes kwok for simulated nodes"}
	default:
		s.degrade("pods are simulated: " + reason)
	}
	return plan, nil
}

// exitUnsupported is how `fairway-cluster node check` says that this machine
// cannot run a real node.
const exitUnsupported = 4

// nodeSupported returns why this machine cannot run a real node, or "".
func nodeSupported(ctx context.Context, program string) (string, error) {
	out, err := exec.CommandContext(ctx, program, "node", "check").CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "", nil
	case errors.As(err, &exit) && exit.ExitCode() == exitUnsupported:
		line, _, _ := strings.Cut(string(out), "\n")
		return strings.TrimPrefix(line, "fairway-cluster node: "), nil
	default:
		return "", fmt.Errorf("asking whether this machine can run a node: %w: %s", err, out)
	}
}

func withStderr(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	return err
}

func (s *Server) degrade(why string) {
	slog.Warn("running degraded", "reason", why)
	s.update(func(st *State) { st.Degraded = append(st.Degraded, why) })
}

// node is the real node of the embedded cluster, where there is one.
type node struct {
	child     *child
	stopped   func()
	readyFile string
	failed    <-chan error
}

func (n *node) stop() {
	if n.stopped != nil {
		n.stopped()
	}
}

// startNode starts the real node that was planned; ready waits for it.
func (s *Server) startNode(ctx, base context.Context, st *stores) (*node, error) {
	if !st.cluster.plan.real {
		return &node{}, nil
	}
	program, err := ClusterProgram()
	if err != nil {
		return nil, err
	}
	readyFile := s.inst.path("run", "node-ready")
	if err := os.RemoveAll(readyFile); err != nil {
		return nil, err
	}
	if err := s.writeNodeRegistry(ctx, st); err != nil {
		return nil, err
	}
	failed := make(chan error, 1)
	n := &node{readyFile: readyFile, failed: failed, child: &child{
		name: "node",
		args: []string{program, "node", "--data", s.inst.path("node"),
			"--kubeconfig", s.inst.path("cluster", "admin.kubeconfig"),
			"--ready-file", readyFile, "--die-with-parent"},
		logPath:     s.inst.logName("node.log"),
		stopTimeout: 30 * time.Second,
		began:       func(pid int) { s.update(func(st *State) { st.NodePID = pid }) },
		exited:      tell(failed),
	}}
	n.stopped = runInBackground(base, n.child.Run)
	return n, nil
}

// ready waits until pods can run on the node.
func (n *node) ready(ctx context.Context) error {
	if n.child == nil {
		return nil
	}
	if err := waitFile(ctx, n.readyFile, n.failed); err != nil {
		return &StartError{fmt.Sprintf("the node did not start: %v\n%s", err, tail(n.child.logPath, 2000)),
			"its log is " + n.child.logPath + "; --nodes kwok does without"}
	}
	return nil
}

const (
	// nodeTokenTTL is how long a node's pull credential lives; it is renewed
	// well before.
	nodeTokenTTL   = 24 * time.Hour
	nodeTokenRenew = 6 * time.Hour
)

// nodeRegistry is one element of the node's registry.json, as package node of
// the cluster's module has it.
type nodeRegistry struct {
	Names    []string `json:"names"`
	Endpoint string   `json:"endpoint"`
	CAFile   string   `json:"caFile"`
	Username string   `json:"username"`
	Password string   `json:"password"`
}

// writeNodeRegistry tells the node how it reaches our registry under the names
// that people push to, with a credential of its own.
func (s *Server) writeNodeRegistry(ctx context.Context, st *stores) error {
	token, err := identity.EnsureNodePull(ctx, st.client, nodeTokenTTL)
	if err != nil {
		return err
	}
	port := strconv.Itoa(s.inst.Config.Port)
	data, err := json.Marshal([]nodeRegistry{{
		Names:    []string{"localhost:" + port, "127.0.0.1:" + port},
		Endpoint: "https://" + net.JoinHostPort(st.cluster.plan.HostAddress, port),
		CAFile:   s.inst.CAPath(),
		Username: "node",
		Password: token.Value,
	}})
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(s.inst.path("node"), "registry.json"), data)
}

// renewNodeRegistry keeps the node's credential fresh until ctx ends.
func (s *Server) renewNodeRegistry(ctx context.Context, st *stores) error {
	tick := time.NewTicker(nodeTokenRenew)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := s.writeNodeRegistry(ctx, st); err != nil {
				slog.Error("renewing the node's pull credential", "error", err)
			}
		}
	}
}

// listenNode takes the port at the host's end of the node's link, through
// which pods reach us, with TLS. The link may not be there yet, and may come
// again: hence IP_FREEBIND, ip(7).
func (s *Server) listenNode(ctx context.Context, st *stores) (listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		cerr := c.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_FREEBIND, 1)
		})
		return errors.Join(cerr, err)
	}}
	address := net.JoinHostPort(st.cluster.plan.HostAddress, strconv.Itoa(s.inst.Config.Port))
	l, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return listener{}, fmt.Errorf("listening for the node: %w", err)
	}
	return listener{Listener: l, tls: certs.Config(st.tls)}, nil
}
