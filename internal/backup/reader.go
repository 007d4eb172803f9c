package backup

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"
)

const (
	// maxWindow is the largest window of zstd that is written, and read: it is
	// held in memory.
	maxWindow = 8 * mib
	// maxMembers bounds how many there are.
	maxMembers = 20_000_000
	// maxFixed is of the manifest and the end.
	maxFixed = 1 * mib
)

// Reader reads a backup member by member. Whatever is wrong with the file is
// an *Error. Only when Next has returned io.EOF is it known to be whole.
type Reader struct {
	Manifest Manifest

	source *source
	zstd   *zstd.Decoder
	tar    *tar.Reader
	tally
	// name and sum are of the member that is being read.
	name string
	left int64
	size int64
	hash hash.Hash
	done bool
}

// source remembers what went wrong below the decoders: that is not the file's
// fault.
type source struct {
	io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// NewReader reads the manifest. Close it in the end.
func NewReader(r io.Reader) (*Reader, error) {
	from := &source{Reader: r}
	z, err := zstd.NewReader(from, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("reading the backup: %w", err)
	}
	b := &Reader{source: from, zstd: z, tar: tar.NewReader(z), tally: tally{sum: sha256.New()}}
	if err := b.manifest(); err != nil {
		z.Close()
		return nil, err
	}
	return b, nil
}

// Close lets go of the decoder.
func (b *Reader) Close() { b.zstd.Close() }

func (b *Reader) manifest() error {
	h, err := b.header()
	if err == nil && h.Name != memberManifest {
		err = fmt.Errorf("it begins with %.100q", h.Name)
	}
	if err == nil {
		err = b.fixed(h, &b.Manifest)
	}
	var bad *Error
	switch {
	case errors.As(err, &bad), b.source.err != nil:
		return err
	case err != nil:
		return &Error{Reason: "is none: it was not made by 'fairway backup'", err: err, hint: "name a file that 'fairway backup' has written"}
	case b.Manifest.Format > Format || b.Manifest.Format < 1:
		return &Error{
			Reason: fmt.Sprintf("has form %d, and this version of fairway knows %d", b.Manifest.Format, Format),
			hint:   fmt.Sprintf("fairway %.40q wrote it: use that version or a newer one", b.Manifest.Fairway),
		}
	}
	return nil
}

// header is the next member's, which is a plain file.
func (b *Reader) header() (*tar.Header, error) {
	h, err := b.tar.Next()
	if err != nil {
		return nil, b.reading(err)
	}
	if h.Typeflag != tar.TypeReg || h.Size < 0 {
		return nil, Bad(h.Name, errors.New("it is no plain file"))
	}
	b.name, b.size, b.left, b.hash = h.Name, h.Size, h.Size, sha256.New()
	if h.Size == 0 {
		b.add(h.Name, 0, b.hash.Sum(nil))
	}
	return h, nil
}

// reading translates what the decoders say.
func (b *Reader) reading(err error) error {
	switch {
	case b.source.err != nil:
		return fmt.Errorf("reading the backup: %w", b.source.err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return truncated()
	case errors.Is(err, zstd.ErrMagicMismatch):
		return &Error{Reason: "is none: it was not made by 'fairway backup'", err: err, hint: "name a file that 'fairway backup' has written"}
	}
	return &Error{Reason: "is damaged", err: err, hint: useAnother}
}

// fixed reads a member that is small JSON.
func (b *Reader) fixed(h *tar.Header, into any) error {
	if h.Size > maxFixed {
		return Bad(h.Name, fmt.Errorf("it has %d bytes", h.Size))
	}
	data, err := io.ReadAll(b)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return Bad(h.Name, err)
	}
	return nil
}

// Next goes to the next member, which is then read from b; what was not read of
// the last one is skipped, and counts all the same. After the last one it is
// io.EOF: all that was read is what was written.
func (b *Reader) Next() (Member, error) {
	if b.done {
		return Member{}, io.EOF
	}
	if _, err := io.Copy(io.Discard, b); err != nil {
		return Member{}, err
	}
	tallied := b.tally.digest()
	h, err := b.header()
	if err != nil {
		return Member{}, err
	}
	if h.Name == memberEnd {
		return Member{}, b.finish(h, tallied)
	}
	if b.members > maxMembers {
		return Member{}, Bad(h.Name, errors.New("there are too many members"))
	}
	m, ok := parseMember(h.Name)
	if !ok {
		return Member{}, Bad(h.Name, errors.New("no member has such a name"))
	}
	if h.Size > m.Kind.limit() {
		return Member{}, Bad(h.Name, fmt.Errorf("it has %d bytes", h.Size))
	}
	m.Size = h.Size
	return m, nil
}

// Read implements io.Reader for the current member.
func (b *Reader) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.tar.Read(p)
	b.hash.Write(p[:n])
	b.left -= int64(n)
	if b.left == 0 {
		b.add(b.name, b.size, b.hash.Sum(nil))
		return n, nil
	}
	if err != nil {
		return n, b.reading(err)
	}
	return n, nil
}

// finish holds what was read against the end, and sees that it is one.
func (b *Reader) finish(h *tar.Header, tallied string) error {
	members, size := b.members, b.Counts.Bytes
	var e end
	if err := b.fixed(h, &e); err != nil {
		return err
	}
	if e.Members != members || e.SHA256 != tallied || e.Counts.Bytes != size {
		return &Error{Reason: "is damaged: its members are not those that were written", hint: useAnother}
	}
	if h, err := b.tar.Next(); err == nil {
		return Bad(h.Name, errors.New("it comes after the end"))
	} else if !errors.Is(err, io.EOF) {
		return b.reading(err)
	}
	// The checksum of the compressed data stands behind all of it.
	if n, err := io.Copy(io.Discard, io.LimitReader(b.zstd, maxFixed)); err != nil {
		return b.reading(err)
	} else if n == maxFixed {
		return Bad(memberEnd, errors.New("something comes after it"))
	}
	b.Counts, b.done = e.Counts, true
	return io.EOF
}
