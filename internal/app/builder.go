package app

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/fairway-cd/fairway/internal/build"
)

// BuildEngine is the engine of the instance: below its directory, and with its
// registry as what stands in for others. Where there is no instance it is the
// engine of the user.
func (i *Instance) BuildEngine() (build.Engine, error) {
	self, err := os.Executable()
	if err != nil {
		return build.Engine{}, fmt.Errorf("find our own program: %w", err)
	}
	e := build.Engine{Root: i.path("build"), Program: self}
	if !i.exists() {
		cache, err := os.UserCacheDir()
		if err != nil {
			return build.Engine{}, fmt.Errorf("find where the build engine keeps its cache: %w", err)
		}
		e.Root = filepath.Join(cache, "fairway", "build")
	}
	if i.Config.Port != 0 {
		e.Args = append(e.Args, "--mirror", "docker.io="+i.Registry())
	}
	return e, nil
}

// ContainerRuntime finds the program that runs containers: FAIRWAY_RUNC, else the
// one that was built beside our own program, else runc on PATH.
func ContainerRuntime() (string, error) {
	if path := os.Getenv("FAIRWAY_RUNC"); path != "" {
		return path, nil
	}
	if self, err := os.Executable(); err == nil {
		path := filepath.Join(filepath.Dir(self), "node", "runc")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath("runc")
	if errors.Is(err, exec.ErrNotFound) {
		return "", &MissingRuntimeError{}
	}
	return path, err
}

// MissingRuntimeError says that there is nothing to run containers with.
type MissingRuntimeError struct{}

func (*MissingRuntimeError) Error() string {
	return "runc, which runs the steps of a build, is not there"
}

// Hint says what to do about it.
func (*MissingRuntimeError) Hint() string {
	return "build it with 'make build' as root, install it (apt-get install runc), or name it in FAIRWAY_RUNC"
}
