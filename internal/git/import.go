package git

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
)

// The files of a Store that are not of one repository.
const (
	rulesName = "mirrors.yaml"
	seenName  = "hooks-seen"
)

// CopyError says that what was to become a repository cannot.
type CopyError struct {
	Repository string
	Reason     string
}

func (e *CopyError) Error() string {
	return fmt.Sprintf("the copy of repository %s is not valid: %s", e.Repository, e.Reason)
}

// Importer makes repositories out of copies in a Git directory that no Store
// has open.
type Importer struct {
	dir string
	git *program
}

// NewImporter makes the Git directory where there is none.
func NewImporter(dir string) (*Importer, error) {
	for _, sub := range []string{"repos", "home", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("making the Git directory: %w", err)
		}
	}
	git, err := newProgram(filepath.Join(dir, "home"))
	if err != nil {
		return nil, err
	}
	return &Importer{dir: dir, git: git}, nil
}

// Repository makes a repository of the copy and its bundle, which is nil where
// the copy has no references. Nothing of the copy is trusted: what does not
// pass git fsck, or names what is not there, is a *CopyError. The repository is
// there whole, or not at all.
func (i *Importer) Repository(ctx context.Context, name core.Name, c Copy, bundle io.Reader) error {
	if err := checkName(name); err != nil {
		return err
	}
	cur, err := c.check(name)
	if err != nil {
		return err
	}
	dir := filepath.Join(i.dir, "repos", name.Namespace, name.Name+".git")
	err = initRepository(filepath.Join(i.dir, "tmp"), dir, func(work string) error {
		if err := i.unbundle(ctx, work, name, c, bundle); err != nil {
			return err
		}
		return c.write(work, cur)
	}, func(work string) error { return i.verify(ctx, work, name, c) })
	if errors.Is(err, fs.ErrExist) {
		return &ExistsError{Repository: name}
	}
	return err
}

// File writes one of a Store's own files; another name is an error.
func (i *Importer) File(name string, data []byte) error {
	if !slices.Contains(storeFiles(), name) {
		return fmt.Errorf("%q is no file of a Git directory", name)
	}
	if err := writeDurably(filepath.Join(i.dir, name), data, 0o600); err != nil {
		return err
	}
	if name == rulesName {
		_, err := loadRules(filepath.Join(i.dir, name))
		return err
	}
	return nil
}

var cursorID = regexp.MustCompile(`^[0-9a-f]{32}$`)

// check holds a copy against what an exporter writes.
func (c Copy) check(name core.Name) (*cursor, error) {
	bad := func(format string, args ...any) (*cursor, error) {
		return nil, &CopyError{name.String(), fmt.Sprintf(format, args...)}
	}
	if c.Head != "" && !validRefName(c.Head) {
		return bad("HEAD names %.100q", c.Head)
	}
	for ref, hash := range c.Refs {
		if !validRefName(ref) || len(hash) != 40 || !hexHash.MatchString(hash) {
			return bad("reference %.100q", ref)
		}
		for above := path.Dir(ref); above != "refs"; above = path.Dir(above) {
			if c.Refs[above] != "" {
				return bad("reference %.100q is below another one", ref)
			}
		}
	}
	for ref := range c.Logs {
		if c.Refs[ref] == "" {
			return bad("a log of %.100q, which is not there", ref)
		}
	}
	cur := &cursor{}
	if err := json.Unmarshal(c.Cursor, cur); err != nil || !cursorID.MatchString(cur.ID) {
		return bad("its cursor cannot be read")
	}
	for ref, at := range cur.Refs {
		if at == nil || at.Start < 0 || at.End < at.Start || !validRefName(ref) {
			return bad("its cursor cannot be read")
		}
	}
	if cur.Refs == nil {
		cur.Refs = map[string]*refCursor{}
	}
	if len(c.Settings) > 0 && json.Unmarshal(c.Settings, &Settings{}) != nil {
		return bad("its settings cannot be read")
	}
	return cur, nil
}

// unbundle takes the objects in, by git's own hands.
func (i *Importer) unbundle(ctx context.Context, work string, name core.Name, c Copy, bundle io.Reader) error {
	if bundle == nil {
		if len(c.Refs) > 0 {
			return &CopyError{name.String(), "its objects are missing"}
		}
		return nil
	}
	pack := bufio.NewReader(bundle)
	if line, err := headerLine(pack); err != nil || line != bundleSignature {
		return &CopyError{name.String(), "what has its objects is no bundle"}
	}
	// The references are the copy's.
	for range len(c.Refs) + 2 { // HEAD, and the empty line
		line, err := headerLine(pack)
		if err != nil {
			return &CopyError{name.String(), "its bundle is cut short"}
		}
		if line == "\n" {
			_, err := i.git.run(ctx, work, pack, nil, "index-pack", "--stdin")
			return i.badObjects(name, err)
		}
	}
	return &CopyError{name.String(), "its bundle has other references"}
}

// headerLine reads a line of a bundle's header, which fits the buffer.
func headerLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	return string(line), err
}

// badObjects is the error for objects with which git found fault.
func (i *Importer) badObjects(name core.Name, err error) error {
	var failed *commandError
	if errors.As(err, &failed) {
		return &CopyError{name.String(), failed.Error()}
	}
	return err
}

// write lays out what is not objects.
func (c Copy) write(work string, cur *cursor) error {
	var packed bytes.Buffer
	packed.WriteString("# pack-refs with: sorted \n")
	for _, ref := range slices.Sorted(maps.Keys(c.Refs)) {
		fmt.Fprintf(&packed, "%s %s\n", c.Refs[ref], ref)
	}
	if err := writeDurably(filepath.Join(work, "packed-refs"), packed.Bytes(), 0o600); err != nil {
		return err
	}
	for ref, log := range c.Logs {
		file := filepath.Join(work, "logs", filepath.FromSlash(ref))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return fmt.Errorf("writing a reflog: %w", err)
		}
		if err := writeDurably(file, log, 0o600); err != nil {
			return err
		}
	}
	if c.Head != "" {
		if err := writeDurably(filepath.Join(work, "HEAD"), []byte("ref: "+c.Head+"\n"), 0o600); err != nil {
			return err
		}
	}
	if len(c.Settings) > 0 {
		if err := writeDurably(filepath.Join(work, settingsFile), c.Settings, 0o600); err != nil {
			return err
		}
	}
	// Who was deleted long ago need not be known any more; save sees to that.
	for _, at := range cur.Refs {
		if at.Gone.After(time.Now()) {
			at.Gone = time.Now()
		}
	}
	cur.path = filepath.Join(work, cursorFile)
	return cur.save()
}

// verify has git look at every object. What old commits may have wrong is what
// a fetch lets pass (see repositoryConfig).
func (i *Importer) verify(ctx context.Context, work string, name core.Name, c Copy) error {
	if len(c.Refs) == 0 {
		return nil
	}
	args := []string{}
	for _, id := range []string{"badTimezone", "missingSpaceBeforeDate", "missingNameBeforeEmail", "missingEmail",
		"missingSpaceBeforeEmail", "zeroPaddedDate", "zeroPaddedFilemode"} {
		args = append(args, "-c", "fsck."+id+"=ignore")
	}
	for _, id := range []string{"fullPathname", "hasDot", "hasDotdot", "hasDotgit"} {
		args = append(args, "-c", "fsck."+id+"=error")
	}
	args = append(args, "fsck", "--full", "--no-reflogs", "--no-dangling", "--no-progress")
	_, err := i.git.run(ctx, work, nil, nil, args...)
	var failed *commandError
	if errors.As(err, &failed) {
		failed.verb = "fsck"
	}
	return i.badObjects(name, err)
}
