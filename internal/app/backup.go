package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"filippo.io/age"
	"github.com/opencontainers/go-digest"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/fairway-cd/fairway/internal/backup"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/git"
	"github.com/fairway-cd/fairway/internal/registry"
)

// BackupOptions say what is in a backup.
type BackupOptions struct {
	// Recipients are the age keys to which Secrets are encrypted. Without any
	// there are no Secrets in it.
	Recipients []age.Recipient
	// Progress is told each step.
	Progress func(Step)
}

// tlsAuthority is the file of the instance that is kept with the Secrets, so
// that who trusts its certificates goes on doing so.
const tlsAuthority = "tls/ca.pem"

// Backup writes a backup of the running instance to w. Pushes go on meanwhile;
// docs/guide/backup.md says what that means. What was written is whole only
// where there is no error.
func (i *Instance) Backup(ctx context.Context, w io.Writer, o BackupOptions) (backup.Counts, error) {
	if err := i.whole(); err != nil {
		return backup.Counts{}, err
	}
	b := &backingUp{inst: i, options: o}
	defer b.close()
	// The order is what makes it consistent: what refers before what it refers
	// to, and what was delivered before all of it.
	var err error
	if b.git, err = git.NewExporter(i.path("git")); err != nil {
		return backup.Counts{}, err
	}
	if err := b.readCluster(ctx); err != nil {
		return backup.Counts{}, err
	}
	if b.Writer, err = backup.NewWriter(w, b.manifest); err != nil {
		return backup.Counts{}, err
	}
	if err := b.write(ctx); err != nil {
		b.Abort()
		return backup.Counts{}, err
	}
	if err := b.Close(); err != nil {
		return backup.Counts{}, err
	}
	return b.Counts, nil
}

// backingUp is one backup.
type backingUp struct {
	*backup.Writer
	inst     *Instance
	options  BackupOptions
	manifest backup.Manifest
	git      *git.Exporter

	// objects and secrets are members before they are written: a member's size
	// stands before it.
	objects, secrets *scratch
	counts           backup.Counts
}

func (b *backingUp) close() {
	b.objects.close()
	b.secrets.close()
}

// readCluster reads all objects of the cluster.
func (b *backingUp) readCluster(ctx context.Context) (err error) {
	b.options.Progress(Step{Name: "reading the cluster's objects"})
	config, err := clientcmd.BuildConfigFromFlags("", b.inst.KubeconfigPath())
	if err != nil {
		return fmt.Errorf("reading the instance's kubeconfig: %w", err)
	}
	cluster, err := backup.NewCluster(config)
	if err != nil {
		return err
	}
	sealed := len(b.options.Recipients) > 0
	c := b.inst.Config
	b.manifest = backup.Manifest{Fairway: Version, Time: time.Now().UTC().Truncate(time.Second), Secrets: sealed,
		Config: backup.Config{Port: c.Port, FormerPorts: c.FormerPorts, Listen: c.Listen, Nodes: string(c.Nodes),
			DefaultServiceAccount: c.Lockdown.DefaultServiceAccount, NoCrossNamespaceRefs: c.Lockdown.NoCrossNamespaceRefs}}
	if b.manifest.Kubernetes, err = cluster.Version(); err != nil {
		return err
	}
	if b.objects, err = b.inst.scratch(); err != nil {
		return err
	}
	if b.secrets, err = b.inst.scratch(); err != nil {
		return err
	}
	plain, err := backup.NewRecords(b.objects, nil)
	if err != nil {
		return err
	}
	secret := plain // never written to where nothing is sealed
	if sealed {
		if secret, err = backup.NewRecords(b.secrets, b.options.Recipients); err != nil {
			return err
		}
	}
	err = cluster.Collect(ctx, func(o *unstructured.Unstructured) error {
		switch {
		case o.GetKind() != "Secret" || o.GroupVersionKind().Group != "":
			b.counts.Objects++
			return plain.Add(backup.Record{Object: o})
		case sealed:
			b.counts.Secrets++
			return secret.Add(backup.Record{Object: o})
		}
		return nil
	})
	if err != nil || !sealed {
		return err
	}
	authority, err := os.ReadFile(b.inst.path("tls", "ca.pem"))
	if err == nil {
		err = secret.Add(backup.Record{File: tlsAuthority, Data: authority})
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return err
	}
	return secret.Close()
}

// write writes everything that was read, Git, and the images.
func (b *backingUp) write(ctx context.Context) error {
	b.Counts.Objects, b.Counts.Secrets = b.counts.Objects, b.counts.Secrets
	if err := b.scratch(backup.MemberObjects, b.objects); err != nil {
		return err
	}
	if b.manifest.Secrets {
		if err := b.scratch(backup.MemberSecrets, b.secrets); err != nil {
			return err
		}
	}
	if err := b.repositories(ctx); err != nil {
		return err
	}
	return b.images(ctx)
}

// repositories writes what Git keeps.
func (b *backingUp) repositories(ctx context.Context) error {
	files, err := b.git.Files()
	if err != nil {
		return err
	}
	for name, data := range files {
		if err := b.AddBytes(backup.GitFileMember(name), data); err != nil {
			return err
		}
	}
	names, err := b.git.Names()
	if err != nil {
		return err
	}
	b.options.Progress(Step{Name: fmt.Sprintf("packing %d Git repositories", len(names))})
	for _, name := range names {
		if err := b.repository(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (b *backingUp) repository(ctx context.Context, name core.Name) error {
	bundle, err := b.inst.scratch()
	if err != nil {
		return err
	}
	defer bundle.close()
	state, err := b.git.Repository(ctx, name, bundle)
	var gone *git.NotFoundError
	if errors.As(err, &gone) {
		return nil // deleted meanwhile
	}
	if err != nil {
		return err
	}
	b.Counts.Repositories++
	if err := b.AddJSON(backup.RepositoryMember(name), state); err != nil || len(state.Refs) == 0 {
		return err
	}
	return b.scratch(backup.BundleMember(name), bundle)
}

// imageTries is how often a repository of images is read again because
// something of it was collected meanwhile.
const imageTries = 3

// images writes the registry: the content of each repository, and then what
// the repository says of it.
func (b *backingUp) images(ctx context.Context) error {
	from := registry.NewExporter(b.inst.path("registry"))
	names, err := from.Names(ctx)
	if err != nil {
		return err
	}
	b.options.Progress(Step{Name: fmt.Sprintf("copying %d repositories of images", len(names))})
	written := map[digest.Digest]bool{}
	for _, name := range names {
		var held registry.Copy
		gone := map[digest.Digest]bool{}
		for try := 0; try == 0 || len(gone) > 0 && try < imageTries; try++ {
			clear(gone)
			if held, err = from.Repository(ctx, name); err != nil {
				return err
			}
			for _, d := range held.Content() {
				if err := b.content(ctx, from, d, written, gone); err != nil {
					return fmt.Errorf("copying %s: %w", name, err)
				}
			}
		}
		// What is still said to be there, and is not, cannot be pulled either.
		held = held.Without(gone)
		if len(held.Manifests)+len(held.Blobs) == 0 {
			continue
		}
		b.Counts.Images++
		b.Counts.Tags += len(held.Tags)
		if err := b.AddJSON(backup.ImageMember(name), held); err != nil {
			return err
		}
	}
	return nil
}

// content writes content once, and notes what is not there.
func (b *backingUp) content(ctx context.Context, from *registry.Exporter, d digest.Digest, written, gone map[digest.Digest]bool) error {
	if written[d] {
		return ctx.Err()
	}
	f, size, err := from.Open(d)
	if errors.Is(err, fs.ErrNotExist) {
		gone[d] = true
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	defer f.Close()
	sum := d.Verifier()
	if err := b.Add(backup.BlobMember(d), size, io.TeeReader(f, sum)); err != nil {
		return err
	}
	if !sum.Verified() {
		return &damagedError{d}
	}
	written[d] = true
	b.Counts.Blobs++
	return ctx.Err()
}

// damagedError says that an image is not what it was on our own disk.
type damagedError struct{ digest digest.Digest }

func (e *damagedError) Error() string {
	return fmt.Sprintf("%s is damaged on disk: its content has another digest", e.digest)
}

// Hint implements core.Hinted.
func (*damagedError) Hint() string {
	return "delete the image with 'fairway image delete' and push it again; no backup was written"
}
