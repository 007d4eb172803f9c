package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"github.com/fairway-cd/fairway/internal/backup"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/git"
	"github.com/fairway-cd/fairway/internal/registry"
)

// intake takes the members of a backup in. No name in it is used as a path.
type intake struct {
	inst     *Instance
	from     *backup.Reader
	git      *git.Importer
	registry *registry.Importer

	// begun is the repository whose objects are next.
	begun *git.Copy
	name  core.Name
	// failed is what went wrong below what reads a member: it is the reason of
	// whatever that says.
	failed error
}

func newIntake(inst *Instance, from *backup.Reader) (*intake, error) {
	in := &intake{inst: inst, from: from}
	var err error
	if in.git, err = git.NewImporter(inst.path("git")); err != nil {
		return nil, err
	}
	in.registry, err = registry.NewImporter(inst.path("registry"))
	return in, err
}

// Read implements io.Reader for the current member.
func (in *intake) Read(p []byte) (int, error) {
	n, err := in.from.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		in.failed = err
	}
	return n, err
}

// all takes all members in.
func (in *intake) all(ctx context.Context) error {
	for {
		m, err := in.from.Next()
		if errors.Is(err, io.EOF) {
			return in.flush(ctx, backup.Member{})
		}
		if err == nil {
			err = in.room(m.Size)
		}
		if err == nil {
			err = in.flush(ctx, m)
		}
		if err == nil {
			err = in.member(ctx, m)
		}
		if in.failed != nil {
			return in.failed
		}
		if err != nil {
			return blame(m, err)
		}
	}
}

// blame says that the backup is at fault, where it is.
func blame(m backup.Member, err error) error {
	var repository *git.CopyError
	var image *registry.CopyError
	var name *core.InvalidNameError
	var exists *git.ExistsError
	if errors.As(err, &repository) || errors.As(err, &image) || errors.As(err, &name) || errors.As(err, &exists) {
		return backup.Bad(m.String(), err)
	}
	return err
}

// spareRoom stays free: what is made of a backup takes more than its members.
const spareRoom = 64 << 20

// room is an error where a member does not fit the disk, however little it was
// compressed to.
func (in *intake) room(size int64) error {
	var disk unix.Statfs_t
	if err := unix.Statfs(in.inst.dir, &disk); err != nil {
		return fmt.Errorf("looking how much room there is in %s: %w", in.inst.dir, err)
	}
	free := disk.Bavail * uint64(disk.Bsize)
	if uint64(size)+spareRoom <= free {
		return nil
	}
	return &StartError{
		fmt.Sprintf("%s has %s left, and the backup needs %s more", in.inst.dir, humanize.IBytes(free), humanize.IBytes(uint64(size)+spareRoom)),
		"make room, or name a directory on another disk with --data",
	}
}

// flush makes the repository that was begun, unless m are its objects.
func (in *intake) flush(ctx context.Context, m backup.Member) error {
	if in.begun == nil || m.Kind == backup.Bundle && m.Name == in.name {
		return nil
	}
	state := *in.begun
	in.begun = nil
	if err := in.git.Repository(ctx, in.name, state, nil); err != nil {
		return blame(backup.Member{Kind: backup.Repository, Name: in.name}, err)
	}
	return nil
}

func (in *intake) member(ctx context.Context, m backup.Member) error {
	switch m.Kind {
	case backup.Objects, backup.Secrets:
		return in.aside(m)
	case backup.GitFile:
		data, err := io.ReadAll(in)
		if err == nil {
			err = in.git.File(m.Name.Name, data)
		}
		if err != nil {
			return backup.Bad(m.String(), err)
		}
		return nil
	case backup.Repository:
		in.begun, in.name = &git.Copy{}, m.Name
		return in.decode(m, in.begun)
	case backup.Bundle:
		if in.begun == nil {
			return backup.Bad(m.String(), errors.New("it belongs to no repository"))
		}
		state := *in.begun
		in.begun = nil
		return in.git.Repository(ctx, m.Name, state, in)
	case backup.Blob:
		return in.registry.Content(m.Digest, in)
	case backup.Image:
		var held registry.Copy
		if err := in.decode(m, &held); err != nil {
			return err
		}
		return in.registry.Repository(ctx, m.Name, held)
	}
	return fmt.Errorf("member %s is of no known kind", m)
}

// decode reads a member that is JSON.
func (in *intake) decode(m backup.Member, into any) error {
	data, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return backup.Bad(m.String(), err)
	}
	return nil
}

// aside keeps a member until all of the backup has been read.
func (in *intake) aside(m backup.Member) error {
	name := backup.MemberObjects
	if m.Kind == backup.Secrets {
		name = backup.MemberSecrets
	}
	f, err := os.OpenFile(in.inst.path(restoreDir, filepath.Base(name)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return backup.Bad(m.String(), errors.New("it is there twice"))
	}
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(f, in)
	return err
}
