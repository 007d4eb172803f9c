package app

import (
	"fmt"
	"io"
	"os"
)

// scratch is a file without a name: nothing is left of it, however the process
// ends.
type scratch struct{ *os.File }

// scratch makes one on the instance's disk.
func (i *Instance) scratch() (*scratch, error) {
	f, err := os.CreateTemp(i.path("run"), "scratch-*")
	if err != nil {
		return nil, fmt.Errorf("making a temporary file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, fmt.Errorf("making a temporary file: %w", err)
	}
	return &scratch{f}, nil
}

// close lets go of it, and of nil.
func (s *scratch) close() {
	if s != nil {
		_ = s.Close() // nobody wants it any more
	}
}

// scratch adds the file as a member.
func (b *backingUp) scratch(member string, s *scratch) error {
	size, err := s.Seek(0, io.SeekCurrent)
	if err == nil {
		_, err = s.Seek(0, io.SeekStart)
	}
	if err != nil {
		return fmt.Errorf("reading a temporary file: %w", err)
	}
	return b.Add(member, size, s)
}
