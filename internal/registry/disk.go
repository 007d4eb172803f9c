package registry

import (
	"context"
	"errors"
	"net/http"
	"syscall"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
)

// diskError says that the disk takes nothing, which is not the registry's
// fault and nobody's but the operator's to mend.
type diskError struct {
	full bool
	err  error
}

func (e *diskError) Error() string {
	if e.full {
		return "the registry's disk is full"
	}
	return "the registry's disk is read-only"
}

func (e *diskError) Unwrap() error { return e.err }

// diskTrouble says whether the disk is why something failed; nil where not.
func diskTrouble(err error) *diskError {
	// distribution's error does not unwrap.
	var wrapped storagedriver.Error
	for errors.As(err, &wrapped) {
		err = wrapped.Detail
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &diskError{true, err}
	case errors.Is(err, syscall.EROFS):
		return &diskError{false, err}
	}
	return nil
}

// apiError is 507, which says more than 500 and, unlike 503, not that it will
// pass by itself.
func (e *diskError) apiError() *apiError {
	return &apiError{status: http.StatusInsufficientStorage, code: codeUnavailable, message: e.Error(), err: e.err}
}

// watch is told, through the context of a request, what the disk refused
// while distribution served it: distribution's own answer is a text at best,
// and a success where it closed a file without a look at the error.
type watch struct{ trouble *diskError }

type watchKey struct{}

func watched(r *http.Request) (*http.Request, *watch) {
	w := &watch{}
	return r.WithContext(context.WithValue(r.Context(), watchKey{}, w)), w
}

// seen passes an error of a write on, and remembers the disk's.
func seen(ctx context.Context, err error) error {
	if w, ok := ctx.Value(watchKey{}).(*watch); ok && err != nil && w.trouble == nil {
		w.trouble = diskTrouble(err)
	}
	return err
}

// watchedFile is a file whose errors are seen by the request that opened it.
// It holds a context because the interface has none for Write and Close.
type watchedFile struct {
	storagedriver.FileWriter
	ctx context.Context
}

func (f watchedFile) Write(p []byte) (int, error) {
	n, err := f.FileWriter.Write(p)
	return n, seen(f.ctx, err)
}

func (f watchedFile) Close() error { return seen(f.ctx, f.FileWriter.Close()) }

func (f watchedFile) Commit(ctx context.Context) error { return seen(f.ctx, f.FileWriter.Commit(ctx)) }
