package build

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/fairway-cd/fairway/internal/build/detect"
)

// Plan is what a build would do.
type Plan struct {
	// Dockerfile is the file that says how, and Stages what is in it.
	Dockerfile string  `json:"dockerfile,omitempty"`
	Stages     []Stage `json:"stages,omitempty"`
	// Project is what was detected, where there is no Dockerfile.
	Project *detect.Project `json:"project,omitempty"`
}

// Stage is one of a Dockerfile.
type Stage struct {
	Name string `json:"name,omitempty"`
	// From is an image, or an earlier stage. What an ARG sets in it is not
	// filled in.
	From  string `json:"from"`
	Steps int    `json:"steps"`
}

// mostDockerfile is how large a Dockerfile may be.
const mostDockerfile = 4 << 20

// Explain says what a build would do, and builds nothing.
func Explain(r Request, o detect.Options) (*Plan, error) {
	file := r.dockerfile()
	info, err := os.Stat(file)
	switch {
	case err == nil && info.Size() > mostDockerfile:
		return nil, &UsageError{fmt.Sprintf("%s has more than %d MiB", file, mostDockerfile>>20), "a Dockerfile is text"}
	case err == nil:
		return explainFile(file)
	case !errors.Is(err, fs.ErrNotExist) || r.Dockerfile != "":
		return nil, readable(r.Context, file)
	}
	root, err := os.OpenRoot(r.Context) // links do not lead out of it
	if err != nil {
		return nil, &UsageError{fmt.Sprintf("the context: %v", err), "name a directory"}
	}
	defer root.Close()
	project, err := detect.Detect(root.FS(), o)
	if err != nil {
		return nil, err
	}
	return &Plan{Project: project}, nil
}

func (r Request) dockerfile() string {
	if r.Dockerfile != "" {
		return r.Dockerfile
	}
	return filepath.Join(r.Context, "Dockerfile")
}

func explainFile(file string) (*Plan, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the Dockerfile: %w", err)
	}
	tree, err := parser.Parse(bytes.NewReader(data))
	if err != nil {
		return nil, told(err)
	}
	stages, _, err := instructions.Parse(tree.AST, nil)
	if err != nil {
		return nil, told(err)
	}
	p := &Plan{Dockerfile: file}
	for _, s := range stages {
		p.Stages = append(p.Stages, Stage{Name: s.Name, From: s.BaseName, Steps: len(s.Commands)})
	}
	return p, nil
}
