package git

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/fairway-cd/fairway/internal/core"
)

// Settings are what one embedded repository has of its own. They are kept in
// the repository, so that they hold from the first request after a restart.
type Settings struct {
	// PushBytes, FileBytes and Refs are as in Limits, for this repository. 0,
	// or more than the Store's, is the Store's.
	PushBytes int64 `json:"pushBytes,omitempty"`
	FileBytes int64 `json:"fileBytes,omitempty"`
	Refs      int   `json:"refs,omitempty"`
}

const settingsFile = "fairway-settings.json"

// Configure replaces the settings of an embedded repository. They are durable
// when it returns. Of one that is not there the error is a *NotFoundError.
func (s *Store) Configure(_ context.Context, name core.Name, set Settings) error {
	r, err := s.embedded(name)
	if err != nil || *r.settings.Load() == set {
		return err
	}
	data, err := json.Marshal(set)
	if err != nil {
		return fmt.Errorf("encoding the settings of repository %s: %w", name, err)
	}
	if err := writeDurably(filepath.Join(r.dir, settingsFile), data, 0o600); err != nil {
		return err
	}
	r.settings.Store(&set)
	return nil
}

// loadSettings reads the settings of the repository at dir; most have none.
func loadSettings(dir string) (*Settings, error) {
	set := &Settings{}
	data, err := os.ReadFile(filepath.Join(dir, settingsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return set, nil
	}
	if err == nil {
		err = json.Unmarshal(data, set)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the settings: %w", err)
	}
	return set, nil
}

// limitsOf are the limits of one repository.
func (s *Store) limitsOf(r *repository) Limits {
	l, set := s.limits, r.settings.Load()
	lower(&l.PushBytes, set.PushBytes)
	lower(&l.FileBytes, set.FileBytes)
	lower(&l.Refs, set.Refs)
	return l
}

func lower[T int | int64](limit *T, to T) {
	if to > 0 {
		*limit = min(*limit, to)
	}
}
