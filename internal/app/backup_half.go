package app

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// restoreDir stands in an instance's directory for as long as a restore has
// not ended, and holds what it needs. An instance that has it is not whole.
const restoreDir = "restore"

// StateHalf is the state of an instance whose restore did not end.
const StateHalf = "half restored"

// HalfRestoredError says that a restore of the instance did not end.
type HalfRestoredError struct{ Dir string }

func (e *HalfRestoredError) Error() string {
	return "the instance in " + e.Dir + " is half restored, and not to be used"
}

// Hint implements core.Hinted.
func (*HalfRestoredError) Hint() string {
	return "run 'fairway restore' again, which starts over; or remove it with 'fairway down --purge'"
}

// NotEmptyError says that there is an instance already.
type NotEmptyError struct{ Dir string }

func (e *NotEmptyError) Error() string {
	return "there is an instance in " + e.Dir + " already: a backup is restored only where there is none"
}

// Hint implements core.Hinted.
func (*NotEmptyError) Hint() string {
	return "name another directory with --data; or remove what is there with 'fairway down --purge'"
}

// NoIdentityError says that a backup's Secrets cannot be opened.
type NoIdentityError struct{}

func (*NoIdentityError) Error() string {
	return "the backup has Secrets, and no key is named that opens them"
}

// Hint implements core.Hinted.
func (*NoIdentityError) Hint() string {
	return "name the file of 'age-keygen' with --identity; or leave Secrets out with --without-secrets"
}

// whole is a *HalfRestoredError where a restore did not end.
func (i *Instance) whole() error {
	_, err := os.Lstat(i.path(restoreDir))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("looking for an unfinished restore: %w", err)
	}
	return &HalfRestoredError{i.dir}
}

// empty says whether there is nothing of an instance in the directory, but for
// what a lock makes.
func (i *Instance) empty() (bool, error) {
	for _, part := range parts() {
		if part == "run" {
			continue
		}
		_, err := os.Lstat(i.path(part))
		if err == nil {
			return false, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("looking into %s: %w", i.dir, err)
		}
	}
	return true, nil
}

// wipe removes what a restore has made; that it is half restored, and last.
func (i *Instance) wipe() error {
	for _, part := range parts() {
		if part == "run" || part == restoreDir {
			continue // the lock; the mark
		}
		if err := os.RemoveAll(i.path(part)); err != nil {
			return fmt.Errorf("removing what was restored: %w", err)
		}
	}
	return os.RemoveAll(i.path(restoreDir))
}
