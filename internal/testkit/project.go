package testkit

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

const modulePath = "github.com/fairway-cd/fairway"

// ProjectRoot returns the directory of the main module, looked for from the
// working directory up, which is the package's own while its tests run.
func ProjectRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("looking for the project's root: %w", err)
	}
	line := []byte("module " + modulePath + "\n")
	for {
		content, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(content, line) {
			return dir, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("looking for the project's root: %w", err)
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("looking for the project's root: no go.mod of " + modulePath + " above the working directory")
		}
		dir = parent
	}
}

// Corpus returns the path of a file or directory of the shared corpus, which
// lies at FAIRWAY_CORPUS, by default ../shared/corpus, both relative to the
// project's root. It skips the test where that is not there, naming it.
func Corpus(tb testing.TB, elem ...string) string {
	tb.Helper()
	corpus := os.Getenv("FAIRWAY_CORPUS")
	if corpus == "" {
		corpus = filepath.Join("..", "shared", "corpus")
	}
	if !filepath.IsAbs(corpus) {
		root, err := ProjectRoot()
		if err != nil {
			tb.Fatal(err)
		}
		corpus = filepath.Join(root, corpus)
	}
	path := filepath.Join(append([]string{corpus}, elem...)...)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		tb.Skipf("%s of the corpus is not here (FAIRWAY_CORPUS says where the corpus is)", filepath.Join(elem...))
	} else if err != nil {
		tb.Fatalf("looking for %s in the corpus: %v", filepath.Join(elem...), err)
	}
	return path
}
