package backup

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/klauspost/compress/zstd"
)

// The members of fixed names; the others are below the prefixes.
const (
	MemberObjects = "cluster/objects.jsonl"
	MemberSecrets = "secrets.age"

	memberManifest = "manifest.json"
	memberEnd      = "end.json"

	prefixGit          = "git/"
	prefixRepositories = "git/repos/"
	prefixBlobs        = "registry/blobs/sha256/"
	prefixImages       = "registry/repositories/"
	suffixRepository   = ".git/repository.json"
	suffixBundle       = ".git/repository.bundle"
)

// Writer writes a backup: members in the order in which they are added. It is
// whole only when Close has returned no error.
type Writer struct {
	zstd *zstd.Encoder
	tar  *tar.Writer
	time time.Time
	tally
}

// tally is what the end says about the members before it.
type tally struct {
	members int
	sum     hash.Hash
	Counts  Counts
}

func (t *tally) add(name string, size int64, digest []byte) {
	t.members++
	t.Counts.Bytes += size
	fmt.Fprintf(t.sum, "%x %d %s\n", digest, size, name)
}

func (t *tally) digest() string { return hex.EncodeToString(t.sum.Sum(nil)) }

// NewWriter begins a backup with its manifest.
func NewWriter(w io.Writer, m Manifest) (*Writer, error) {
	z, err := zstd.NewWriter(w, zstd.WithWindowSize(maxWindow))
	if err != nil {
		return nil, err
	}
	b := &Writer{zstd: z, tar: tar.NewWriter(z), time: m.Time, tally: tally{sum: sha256.New()}}
	m.Format = Format
	return b, b.AddJSON(memberManifest, m)
}

// Add adds a member of that size.
func (b *Writer) Add(name string, size int64, r io.Reader) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: b.time, Format: tar.FormatPAX}
	if err := b.tar.WriteHeader(header); err != nil {
		return fmt.Errorf("writing the backup: %w", err)
	}
	sum := sha256.New()
	n, err := io.Copy(b.tar, io.TeeReader(io.LimitReader(r, size), sum))
	if err != nil {
		return fmt.Errorf("writing %s into the backup: %w", name, err)
	}
	if n != size {
		return fmt.Errorf("writing %s into the backup: it was %d bytes, and is %d", name, size, n)
	}
	b.add(name, size, sum.Sum(nil))
	return nil
}

// Close ends the backup. It does not close what it was written to.
func (b *Writer) Close() error {
	if err := b.AddJSON(memberEnd, end{b.Counts, b.members, b.digest()}); err != nil {
		return err
	}
	if err := b.tar.Close(); err != nil {
		return fmt.Errorf("writing the backup: %w", err)
	}
	if err := b.zstd.Close(); err != nil {
		return fmt.Errorf("writing the backup: %w", err)
	}
	return nil
}

// Abort lets go of what an unfinished backup holds.
func (b *Writer) Abort() { _ = b.zstd.Close() }

// AddJSON adds a member that is a value in JSON.
func (b *Writer) AddJSON(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", name, err)
	}
	return b.Add(name, int64(len(data)), newBytes(data))
}

// AddBytes adds a member that is in memory.
func (b *Writer) AddBytes(name string, data []byte) error {
	return b.Add(name, int64(len(data)), newBytes(data))
}
