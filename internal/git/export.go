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
	"path/filepath"
	"slices"
	"strings"

	"github.com/fairway-cd/fairway/internal/core"
)

// Copy is what there is of an embedded repository beside its objects.
type Copy struct {
	// Head is the reference that HEAD names; empty where it is detached.
	Head string            `json:"head,omitempty"`
	Refs map[string]string `json:"refs"`
	// Logs are the reflogs, byte by byte: the cursor counts these.
	Logs     map[string][]byte `json:"logs,omitempty"`
	Cursor   json.RawMessage   `json:"cursor"`
	Settings json.RawMessage   `json:"settings,omitempty"`
}

// Exporter copies the embedded repositories of a Git directory that a Store
// may have open meanwhile, in this process or another. It only reads.
type Exporter struct {
	dir     string
	git     *program
	cursors map[core.Name]*cursor
}

// exportTries is how often a repository that was deleted and made again while
// it was read is read again.
const exportTries = 3

// NewExporter reads now what has been delivered of each repository. What is
// delivered from now on is delivered again, under the same ID, by a Store that
// opens the copies.
func NewExporter(dir string) (*Exporter, error) {
	git, err := newProgram(filepath.Join(dir, "home"))
	if err != nil {
		return nil, err
	}
	e := &Exporter{dir: dir, git: git, cursors: map[core.Name]*cursor{}}
	names, err := e.Names()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		c, err := readCursor(e.repositoryDir(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted meanwhile, or put there by hand a moment ago
		}
		if err != nil {
			return nil, fmt.Errorf("reading repository %s: %w", name, err)
		}
		e.cursors[name] = c
	}
	return e, nil
}

// Names are those of the repositories there are now, sorted.
func (e *Exporter) Names() ([]core.Name, error) { return repositoryNames(e.dir) }

func (e *Exporter) repositoryDir(name core.Name) string {
	return filepath.Join(e.dir, "repos", name.Namespace, name.Name+".git")
}

// Repository copies a repository, and its objects as a bundle
// (gitformat-bundle(5)) into bundle, to which nothing is written where there
// are none. Of one that is no more the error is a *NotFoundError.
func (e *Exporter) Repository(ctx context.Context, name core.Name, bundle io.Writer) (Copy, error) {
	if err := checkName(name); err != nil {
		return Copy{}, err
	}
	dir := e.repositoryDir(name)
	c, err := e.copyState(dir, name)
	if err == nil {
		err = e.bundle(ctx, dir, c, bundle)
	}
	if err != nil {
		if _, gone := os.Stat(filepath.Join(dir, "HEAD")); errors.Is(gone, fs.ErrNotExist) {
			return Copy{}, &NotFoundError{Repository: name.String()}
		}
		return Copy{}, fmt.Errorf("copying repository %s: %w", name, err)
	}
	return c, nil
}

// copyState reads a repository whose ID is the same before and after.
func (e *Exporter) copyState(dir string, name core.Name) (Copy, error) {
	for range exportTries {
		before, err := readCursor(dir)
		if err != nil {
			return Copy{}, err
		}
		c, err := e.copyOnce(dir, name, before)
		if err != nil {
			return Copy{}, err
		}
		after, err := readCursor(dir)
		if err != nil {
			return Copy{}, err
		}
		if before.ID == after.ID {
			return c, nil
		}
	}
	return Copy{}, errors.New("it was made again while it was read")
}

// copyOnce reads the references first, and the logs then: whatever a reference
// stands at, its line is there (see scan).
func (e *Exporter) copyOnce(dir string, name core.Name, now *cursor) (Copy, error) {
	delivered := e.cursors[name]
	if delivered == nil || delivered.ID != now.ID {
		// It was made since: nothing of it was delivered before.
		delivered = &cursor{ID: now.ID, Refs: map[string]*refCursor{}}
	}
	store := refStore{dir: dir}
	c := Copy{Logs: map[string][]byte{}}
	var err error
	if c.Cursor, err = json.Marshal(delivered); err != nil {
		return Copy{}, fmt.Errorf("encoding the outbox cursor: %w", err)
	}
	if c.Head, err = store.head(); err != nil {
		return Copy{}, err
	}
	if c.Refs, err = store.list("refs/"); err != nil {
		return Copy{}, err
	}
	for ref := range c.Refs {
		if !validRefName(ref) {
			delete(c.Refs, ref) // no client could name it
			continue
		}
		log, err := os.ReadFile(filepath.Join(dir, "logs", filepath.FromSlash(ref)))
		if errors.Is(err, fs.ErrNotExist) || isDirectoryError(err) {
			continue
		}
		if err != nil {
			return Copy{}, fmt.Errorf("reading the reflog: %w", err)
		}
		// A line that is being written counts the next time.
		if n := bytes.LastIndexByte(log, '\n') + 1; n > 0 {
			c.Logs[ref] = log[:n]
		}
	}
	settings, err := os.ReadFile(filepath.Join(dir, settingsFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Copy{}, fmt.Errorf("reading the settings: %w", err)
	}
	c.Settings = settings
	return c, nil
}

// bundle writes the objects that the references and their logs name.
func (e *Exporter) bundle(ctx context.Context, dir string, c Copy, to io.Writer) error {
	tips, err := e.tips(ctx, dir, c)
	if err != nil || len(tips) == 0 {
		return err
	}
	var header strings.Builder
	header.WriteString(bundleSignature)
	for _, ref := range slices.Sorted(maps.Keys(c.Refs)) {
		fmt.Fprintf(&header, "%s %s\n", c.Refs[ref], ref)
	}
	if hash := c.Refs[c.Head]; hash != "" {
		fmt.Fprintf(&header, "%s HEAD\n", hash) // for git clone
	}
	header.WriteString("\n")
	if _, err := io.WriteString(to, header.String()); err != nil {
		return fmt.Errorf("writing a bundle: %w", err)
	}
	cmd := e.git.command(ctx, dir, "pack-objects", "--revs", "--stdout", "--delta-base-offset", "-q")
	cmd.Stdin = strings.NewReader(strings.Join(tips, "\n") + "\n")
	cmd.Stdout = to
	tail := &tailWriter{limit: 4 << 10}
	cmd.Stderr = tail
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return &commandError{verb: "pack-objects", err: err, stderr: tail.String()}
	}
	return nil
}

// tips are the references' objects, and those of the logs that are there: a
// line whose process died may name one that is not.
func (e *Exporter) tips(ctx context.Context, dir string, c Copy) ([]string, error) {
	named := map[string]bool{}
	for _, log := range c.Logs {
		for line := range bytes.Lines(log) {
			if l, ok := parseReflogLine(bytes.TrimSuffix(line, []byte("\n"))); ok {
				named[l.Old], named[l.New] = true, true
			}
		}
	}
	delete(named, "")
	stands := map[string]bool{}
	for _, hash := range c.Refs {
		stands[hash] = true
		delete(named, hash)
	}
	tips := slices.Sorted(maps.Keys(stands))
	if len(named) == 0 {
		return tips, nil
	}
	asked := strings.Join(slices.Sorted(maps.Keys(named)), "\n") + "\n"
	out, err := e.git.run(ctx, dir, strings.NewReader(asked), nil, "cat-file", "--batch-check")
	if err != nil {
		return nil, err
	}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		if hash, what, _ := strings.Cut(lines.Text(), " "); what != "missing" && hexHash.MatchString(hash) {
			tips = append(tips, hash)
		}
	}
	return tips, nil
}

// bundleSignature begins a bundle of SHA-1 objects, the only ones here.
const bundleSignature = "# v2 git bundle\n"

// readCursor reads a cursor, and makes none.
func readCursor(dir string) (*cursor, error) {
	if _, err := os.Stat(filepath.Join(dir, cursorFile)); err != nil {
		return nil, err
	}
	return loadCursor(dir)
}

// storeFiles are the files of a Store that are not of one repository: the
// mirror rules, and the webhooks that were taken already.
func storeFiles() []string { return []string{rulesName, seenName} }

// Files returns what a Store keeps beside its repositories, by name.
func (e *Exporter) Files() (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, name := range storeFiles() {
		data, err := os.ReadFile(filepath.Join(e.dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("copying the Git directory: %w", err)
		}
		files[name] = data
	}
	return files, nil
}
