package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"filippo.io/age"
	"github.com/google/renameio/v2"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/backup"
	"github.com/fairway-cd/fairway/internal/controller"
)

// RestoreOptions say how a backup is restored.
type RestoreOptions struct {
	// Identities open the Secrets. WithoutSecrets leaves those out.
	Identities     []age.Identity
	WithoutSecrets bool
	// Port, Nodes and Listen are taken in place of the backup's where they are
	// set.
	Port   int
	Nodes  NodeMode
	Listen []string
	// Paused has it deliver nothing before it is resumed.
	Paused bool
	// Progress is told each step.
	Progress func(Step)
}

// Restore makes of the empty directory the instance that the backup is of, and
// leaves it stopped. It is not seen half made: until it is whole nothing starts
// it, and a restore that was cut off starts over. Where the backup is at fault
// the error is a *backup.Error, and nothing is left.
func (i *Instance) Restore(ctx context.Context, from io.Reader, o RestoreOptions) (backup.Counts, error) {
	made := isAbsent(i.dir)
	lock, err := i.lock()
	if err != nil {
		return backup.Counts{}, err
	}
	defer func() { _ = lock.Unlock() }()
	if err := i.begin(); err != nil {
		return backup.Counts{}, err
	}
	r := &restoring{inst: i, options: o}
	counts, err := r.files(ctx, from)
	if err != nil {
		err = errors.Join(err, i.wipe())
		if made {
			_ = os.RemoveAll(i.path("run")) // its lock is still ours
			_ = os.Remove(i.dir)
		}
		return counts, err
	}
	if err := r.cluster(ctx); err != nil {
		return counts, err
	}
	return counts, i.complete()
}

func isAbsent(dir string) bool {
	_, err := os.Lstat(dir)
	return errors.Is(err, os.ErrNotExist)
}

// begin marks the instance as half restored, and removes what an earlier
// restore has left.
func (i *Instance) begin() error {
	var half *HalfRestoredError
	switch err := i.whole(); {
	case errors.As(err, &half):
		if err := i.wipe(); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	empty, err := i.empty()
	if err != nil {
		return err
	}
	if !empty {
		return &NotEmptyError{i.dir}
	}
	if err := os.MkdirAll(i.path(restoreDir), 0o700); err != nil {
		return fmt.Errorf("making the instance's directory: %w", err)
	}
	return syncDirectory(i.dir)
}

// complete takes the mark away, at once.
func (i *Instance) complete() error {
	old := i.path("run", "restored")
	err := os.RemoveAll(old)
	if err == nil {
		err = os.Rename(i.path(restoreDir), old)
	}
	if err == nil {
		err = syncDirectory(i.dir)
	}
	if err != nil {
		return fmt.Errorf("completing the restore: %w", err)
	}
	return os.RemoveAll(old)
}

// syncDirectory returns when the names in a directory are on disk.
func syncDirectory(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// restoring is one restore.
type restoring struct {
	inst    *Instance
	options RestoreOptions
	objects []*unstructured.Unstructured
}

// files reads the whole backup: Git and images to where they belong, objects
// aside. All of it is known to be good when it returns.
func (r *restoring) files(ctx context.Context, from io.Reader) (backup.Counts, error) {
	b, err := backup.NewReader(&stoppable{ctx, from})
	if err != nil {
		return backup.Counts{}, err
	}
	defer b.Close()
	if err := r.configure(b.Manifest); err != nil {
		return backup.Counts{}, err
	}
	if b.Manifest.Secrets && !r.options.WithoutSecrets && len(r.options.Identities) == 0 {
		return backup.Counts{}, &NoIdentityError{}
	}
	r.options.Progress(Step{Name: "reading Git and images"})
	in, err := newIntake(r.inst, b)
	if err != nil {
		return backup.Counts{}, err
	}
	if err := in.all(ctx); err != nil {
		return backup.Counts{}, err
	}
	return b.Counts, r.records(b.Manifest)
}

// stoppable ends with its context.
type stoppable struct {
	ctx context.Context
	io.Reader
}

func (s *stoppable) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.Reader.Read(p)
}

// configure has the instance be what it was, as far as this machine allows.
func (r *restoring) configure(m backup.Manifest) error {
	c := Config{Paused: r.options.Paused, Port: m.Config.Port, FormerPorts: m.Config.FormerPorts, Listen: m.Config.Listen, Nodes: NodeMode(m.Config.Nodes),
		Lockdown: controller.Lockdown{DefaultServiceAccount: m.Config.DefaultServiceAccount, NoCrossNamespaceRefs: m.Config.NoCrossNamespaceRefs}}
	switch c.Nodes {
	case NodesAuto, NodesKWOK, NodesReal:
	default:
		c.Nodes = NodesAuto
	}
	if c.Port < 0 || c.Port > 65535 {
		return backup.Bad("manifest.json", fmt.Errorf("port %d", c.Port))
	}
	if p := r.options.Port; p != 0 && p != c.Port {
		// Manifests name repositories by the port that they had.
		c.FormerPorts = append(c.FormerPorts, c.Port)
		c.Port = p
	}
	if r.options.Nodes != "" {
		c.Nodes = r.options.Nodes
	}
	if r.options.Listen != nil {
		c.Listen = r.options.Listen
	}
	r.inst.Config = c
	return r.inst.Save()
}

// records reads the objects that were put aside.
func (r *restoring) records(m backup.Manifest) error {
	if err := r.read(backup.MemberObjects, nil); err != nil {
		return err
	}
	if !m.Secrets || r.options.WithoutSecrets {
		return nil
	}
	return r.read(backup.MemberSecrets, r.options.Identities)
}

func (r *restoring) read(member string, identities []age.Identity) error {
	f, err := os.Open(r.inst.path(restoreDir, filepath.Base(member)))
	if errors.Is(err, os.ErrNotExist) {
		return backup.Bad(member, errors.New("it is missing"))
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return backup.ReadRecords(f, member, identities, func(one backup.Record) error {
		switch {
		case one.Object != nil:
			r.objects = append(r.objects, one.Object)
			return nil
		case one.File == tlsAuthority && identities != nil:
			if err := os.MkdirAll(r.inst.path("tls"), 0o700); err != nil {
				return err
			}
			return renameio.WriteFile(r.inst.path("tls", "ca.pem"), one.Data, 0o600)
		}
		return backup.Bad(member, fmt.Errorf("%.100q is no file of an instance", one.File))
	})
}

// cluster starts the control plane alone, and brings the objects back: no
// engine sees a delivery before its status, and no user anything.
func (r *restoring) cluster(ctx context.Context) (err error) {
	s := NewServer(r.inst, r.options.Progress)
	defer os.Remove(r.inst.statePath())
	s.update(func(st *State) { st.PID = os.Getpid() })
	if err := r.inst.choosePorts(ctx); err != nil {
		return err
	}
	cluster, err := s.startCluster(ctx, context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	defer cluster.stop()
	r.options.Progress(Step{Name: "installing kinds and roles"})
	if err := s.install(ctx, &stores{cluster: cluster, config: cluster.config}); err != nil {
		return err
	}
	r.options.Progress(Step{Name: fmt.Sprintf("restoring %d objects", len(r.objects))})
	to, err := backup.NewCluster(cluster.config)
	if err != nil {
		return err
	}
	return to.Restore(ctx, r.objects, nil)
}
