package e2e

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A page of the documentation is run as a reader runs it: its fenced blocks
// that a comment <!-- run --> or <!-- run: NAME --> stands before, verbatim and
// in order, and what no reader needs to see, as a comment of several lines:
//
//	<!-- run
//	commands
//	-->
type block struct {
	// language is what stands after the fence; "" for commands.
	language string
	// name is of a block that is to be run; "run" where it has none of its own.
	name string
	text string
	line int
}

var runMark = regexp.MustCompile(`^<!-- run(?:: (\S+))? -->$`)

// readPage returns the blocks of a page of the project, marked or not.
func readPage(t *testing.T, path string) []block {
	t.Helper()
	file, err := os.Open(filepath.Join(projectRoot(t), path))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var blocks []block
	var open *block
	var end, mark string
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		switch found := runMark.FindStringSubmatch(line); {
		case open != nil && line == end:
			blocks, open = append(blocks, *open), nil
		case open != nil:
			open.text += line + "\n"
		case found != nil:
			if mark = found[1]; mark == "" {
				mark = "run"
			}
		case line == "<!-- run":
			open, end = &block{name: "run", line: n}, "-->"
		case strings.HasPrefix(line, "```"):
			open, end, mark = &block{language: line[3:], name: mark, line: n}, "```", ""
		case mark != "":
			t.Fatalf("%s:%d: no block follows the mark", path, n)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if open != nil {
		t.Fatalf("%s:%d: the block has no end", path, open.line)
	}
	return blocks
}

// reader is somebody who types what a page says, in a directory with a bin/
// as the project has it, and with fairway in the PATH.
type reader struct {
	*instance
	dir string
}

func newReader(t *testing.T, i *instance) *reader {
	t.Helper()
	r := &reader{instance: &instance{bin: i.bin, data: i.data}, dir: t.TempDir()}
	bin := filepath.Dir(i.bin)
	if err := os.Symlink(bin, filepath.Join(r.dir, "bin")); err != nil {
		t.Fatal(err)
	}
	r.env = append(append(r.env, i.env...), "PATH="+bin+":"+os.Getenv("PATH"))
	return r
}

// run types a block, and returns what was printed.
func (r *reader) run(t *testing.T, page string, b block) string {
	t.Helper()
	out, err := r.exec(t.Context(), r.dir, "bash", "-euo", "pipefail", "-c", b.text)
	if err != nil {
		t.Fatalf("%s:%d: %v", page, b.line, err)
	}
	return out
}

// projectRoot is where the documentation is.
func projectRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// pages are the pages below docs, by their paths in the project.
func pages(t *testing.T) []string {
	t.Helper()
	root := projectRoot(t)
	var found []string
	for _, pattern := range []string{"docs/guide/*.md", "docs/spec/*.md"} {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			found = append(found, strings.TrimPrefix(path, root+"/"))
		}
	}
	if len(found) == 0 {
		t.Fatal(fmt.Errorf("%s has no documentation", root))
	}
	return found
}
