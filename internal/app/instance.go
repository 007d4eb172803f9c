package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
	"sigs.k8s.io/yaml"

	"github.com/fairway-cd/fairway/internal/controller"
	"github.com/fairway-cd/fairway/internal/identity"
)

// Version is the version of this build; the linker sets it.
var Version = "0.1.0-dev"

// DefaultData is where an instance lives if nobody says otherwise:
// FAIRWAY_DATA, else fairway below XDG_DATA_HOME, else ~/.local/share/fairway.
func DefaultData() string {
	if dir := os.Getenv("FAIRWAY_DATA"); dir != "" {
		return dir
	}
	if dir := os.Getenv("XDG_DATA_HOME"); dir != "" {
		return filepath.Join(dir, "fairway")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ".fairway"
	}
	return filepath.Join(home, ".local", "share", "fairway")
}

// Instance is one Fairway on this machine: a directory that holds everything
// it has. Several can run beside each other.
type Instance struct {
	dir    string
	Config Config
	// kept is the configuration as it was read, for a start that fails.
	kept Config
}

// Config is what an instance was started with, so that the next start is the
// same without saying it again. It is kept in instance.yaml.
type Config struct {
	// Port serves everything; 0 is not chosen yet.
	Port int `json:"port,omitempty"`
	// FormerPorts are what manifests may still name: those that the instance
	// had before it was restored on another one.
	FormerPorts []int `json:"formerPorts,omitempty"`
	// Listen are further addresses, HOST:PORT, served with TLS where they are
	// not loopback.
	Listen []string `json:"listen,omitempty"`
	// TLSCert and TLSKey are used in place of a generated certificate.
	TLSCert string `json:"tlsCert,omitempty"`
	TLSKey  string `json:"tlsKey,omitempty"`
	// ClusterPort is the embedded API server's; 0 is not chosen yet.
	ClusterPort int `json:"clusterPort,omitempty"`
	// Nodes of the embedded cluster: auto, kwok or real.
	Nodes NodeMode `json:"nodes,omitempty"`
	// Kubeconfig of a cluster to use; empty starts an embedded one.
	Kubeconfig string `json:"kubeconfig,omitempty"`
	// SyncTimeout is how long a sync may take, in Go's form; empty is the
	// engine's default.
	SyncTimeout string `json:"syncTimeout,omitempty"`
	// Paused has nothing delivered until it is resumed.
	Paused bool `json:"paused,omitempty"`
	// Lockdown is what Flux' kinds are held to.
	Lockdown controller.Lockdown `json:"lockdown,omitzero"`
}

// NodeMode is what nodes an embedded cluster has.
type NodeMode string

// The modes: Auto has a real node where this machine allows it.
const (
	NodesAuto NodeMode = "auto"
	NodesKWOK NodeMode = "kwok"
	NodesReal NodeMode = "real"
)

// configName is the file of the Config. That a directory has one makes it an
// instance's.
const configName = "instance.yaml"

// InstanceAt is the instance in dir without its configuration, which need not
// be readable: enough to stop it.
func InstanceAt(dir string) (*Instance, error) {
	if dir == "" {
		return nil, errors.New("the instance's directory is empty")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("instance directory %q: %w", dir, err)
	}
	config := Config{Nodes: NodesAuto}
	return &Instance{dir: abs, Config: config, kept: config}, nil
}

// OpenInstance reads the instance in dir, which need not exist yet.
func OpenInstance(dir string) (*Instance, error) {
	inst, err := InstanceAt(dir)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(inst.path(configName))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return inst, nil
	case err != nil:
		return nil, fmt.Errorf("reading the instance's configuration: %w", err)
	}
	if err := yaml.UnmarshalStrict(data, &inst.Config); err != nil {
		return nil, &ConfigError{Path: inst.path(configName), Err: err}
	}
	inst.kept = inst.Config
	return inst, nil
}

// ConfigError says that an instance's configuration cannot be understood.
type ConfigError struct {
	Path string
	Err  error
}

func (e *ConfigError) Error() string { return fmt.Sprintf("reading %s: %v", e.Path, e.Err) }
func (e *ConfigError) Unwrap() error { return e.Err }

// Hint implements core.Hinted.
func (*ConfigError) Hint() string {
	return "correct it, or remove it and give 'fairway up' its options again: nothing else depends on it"
}

// Save writes the configuration.
func (i *Instance) Save() error {
	if err := os.MkdirAll(i.dir, 0o700); err != nil {
		return fmt.Errorf("making the instance's directory: %w", err)
	}
	data, err := yaml.Marshal(i.Config)
	if err != nil {
		return err
	}
	return writeFile(i.path(configName), data)
}

// Dir is the instance's directory, absolute.
func (i *Instance) Dir() string { return i.dir }

func (i *Instance) path(elem ...string) string {
	return filepath.Join(append([]string{i.dir}, elem...)...)
}

// KubeconfigPath is the kubeconfig of the instance's cluster: the operator's, or
// the one that was given.
func (i *Instance) KubeconfigPath() string {
	if i.Config.Kubeconfig != "" {
		return i.Config.Kubeconfig
	}
	return i.path("kubeconfig")
}

// Account is the ServiceAccount of SystemNamespace with which this machine's
// clients are let in.
func (i *Instance) Account() string {
	if i.Config.Kubeconfig != "" {
		return identity.Local
	}
	return identity.Operator
}

// LogPath is where the server logs when it runs in the background.
func (i *Instance) LogPath() string { return i.path("log", "fairway.log") }

// CAPath is the certificate authority of the addresses that are not loopback.
func (i *Instance) CAPath() string { return i.path("tls", "ca.crt") }

// State is what a running server says of itself, in run/state.json.
type State struct {
	PID int `json:"pid"`
	// Started is when it was ready, and empty before.
	Started    string `json:"started,omitempty"`
	ClusterPID int    `json:"clusterPID,omitempty"`
	NodePID    int    `json:"nodePID,omitempty"`
	// Token is the operator's credential for Git, registry and API.
	Token        string `json:"token,omitempty"`
	TokenExpires string `json:"tokenExpires,omitempty"`
	// Paused says that nothing is delivered.
	Paused bool `json:"paused,omitempty"`
	// Degraded says what does not work, and why.
	Degraded []string `json:"degraded,omitempty"`
}

func (i *Instance) statePath() string { return i.path("run", "state.json") }

func (i *Instance) readState() (State, error) {
	var s State
	data, err := os.ReadFile(i.statePath())
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("reading %s: %w", i.statePath(), err)
	}
	return s, nil
}

func (i *Instance) writeState(s State) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return writeFile(i.statePath(), data)
}

// writeFile writes a private file so that after a crash there is the old or
// the new one.
func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := renameio.WriteFile(path, data, 0o600); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

// syncTimeout is how long a sync may take; 0 is the engine's default.
func (i *Instance) syncTimeout() (time.Duration, error) {
	if i.Config.SyncTimeout == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(i.Config.SyncTimeout)
	if err != nil {
		return 0, &ConfigError{Path: i.path(configName), Err: fmt.Errorf("syncTimeout: %w", err)}
	}
	return d, nil
}
