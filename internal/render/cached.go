package render

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/go-logr/logr"
	"github.com/klauspost/compress/zstd"

	"github.com/fairway-cd/fairway/internal/core"
)

// CacheLimits bound a Cached. The zero value of a field is its default.
type CacheLimits struct {
	// MaxBytes is for the files on disk; 512 MiB. The ones that were not used
	// for the longest time go first.
	MaxBytes int64
	// MaxObjectBytes is for one result in memory while it is read; 128 MiB.
	MaxObjectBytes int64
	// MaxDecryptedBytes is for the results that are kept in memory, because they
	// hold what is encrypted in the source; 16 MiB.
	MaxDecryptedBytes int64
}

// remembered is how many results are remembered of one request: of the newest
// revisions, so that going back to one renders nothing.
const remembered = 4

// Cached is a Renderer that renders nothing that was rendered before. What it
// remembers is on disk: for each request the inputs that were read the last
// times, and for each key the objects. A request first checks the remembered
// inputs against its trees, by hashes alone.
type Cached struct {
	next   Renderer
	dir    string
	limits CacheLimits
	decode cbor.DecMode
	// encoder is made once: it costs more than what it packs.
	encoder *zstd.Encoder

	mu   sync.Mutex // guards what follows, and sweep
	size int64
	// memory is for what was decrypted, by key, and in the order in which it
	// came: it never goes to the disk.
	memory    map[string]stored
	memorized []string
	held      int64
}

var _ Renderer = (*Cached)(nil)

// NewCached makes a Cached in dir, which it creates. Errors of the disk are
// logged, and then it renders.
func NewCached(next Renderer, dir string, limits CacheLimits) (*Cached, error) {
	if limits.MaxBytes <= 0 {
		limits.MaxBytes = 512 << 20
	}
	if limits.MaxObjectBytes <= 0 {
		limits.MaxObjectBytes = 128 << 20
	}
	if limits.MaxDecryptedBytes <= 0 {
		limits.MaxDecryptedBytes = 16 << 20
	}
	decode, err := cbor.DecOptions{MaxNestedLevels: 16, MaxArrayElements: 1 << 20}.DecMode()
	if err != nil {
		return nil, err
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, err
	}
	c := &Cached{next: next, dir: dir, limits: limits, decode: decode, encoder: encoder, memory: map[string]stored{}}
	for _, sub := range []string{indexDir, objectDir} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("make the render cache: %w", err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c, c.sweep()
}

const (
	indexDir  = "index"  // request → past
	objectDir = "object" // key → stored
)

// past is one result that a request had.
type past struct {
	Key    string
	Inputs []Input
}

// stored is a result without what its past says.
type stored struct {
	Objects      [][]byte // JSON
	Tool         Tool
	Warnings     []string
	ClearSecrets []core.ObjectRef `cbor:",omitempty"`
}

// Render implements Renderer.
func (c *Cached) Render(ctx context.Context, req Request) (*Result, error) {
	if req.Release != nil {
		return c.next.Render(ctx, req)
	}
	log := logr.FromContextOrDiscard(ctx)
	slot := filepath.Join(c.dir, indexDir, slotOf(req))
	var pasts []past
	if err := c.load(slot, &pasts); err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Info("a render cache entry cannot be read", "file", slot, "error", err.Error())
	}
	if result, err := c.find(ctx, req, pasts); err != nil || result != nil {
		return result, err
	}
	result, err := c.next.Render(ctx, req)
	if err != nil || result.Key == "" {
		return result, err
	}
	if err := c.remember(slot, pasts, result); err != nil {
		log.Info("a render result cannot be cached", "error", err.Error())
	}
	return result, nil
}

// slotOf names what asks again and again: parameters and source.
func slotOf(req Request) string {
	h := versionHash()
	writeField(h, parameters(req))
	writeField(h, []byte(req.Source))
	return hex.EncodeToString(h.Sum(nil))
}

// find returns the result of a past whose inputs are what they were.
func (c *Cached) find(ctx context.Context, req Request, pasts []past) (*Result, error) {
	for _, p := range pasts {
		same, err := Unchanged(ctx, p.Inputs, req.trees())
		if err != nil {
			return nil, err
		}
		if !same {
			continue
		}
		// The key says what the inputs say, whoever wrote the file.
		if p.Key != key(req, p.Inputs) {
			continue
		}
		file := filepath.Join(c.dir, objectDir, p.Key)
		s, decrypted := c.recall(p.Key)
		if !decrypted && c.load(file, &s) != nil {
			continue // swept, or damaged: it is rendered again
		}
		objects, err := decodeObjects(s.Objects)
		if err != nil {
			continue
		}
		now := time.Now()
		_ = os.Chtimes(file, now, now) // for the sweep; without it, it goes earlier
		return &Result{
			Objects: objects, Tool: s.Tool, Key: p.Key, Inputs: p.Inputs, Warnings: s.Warnings,
			ClearSecrets: s.ClearSecrets, Decrypted: decrypted, Cached: true,
		}, nil
	}
	return nil, nil
}

func (c *Cached) remember(slot string, pasts []past, result *Result) error {
	encoded, err := encodeObjects(result, c.limits.MaxObjectBytes)
	if err != nil {
		return err
	}
	s := stored{Objects: encoded, Tool: result.Tool, Warnings: result.Warnings, ClearSecrets: result.ClearSecrets}
	// First the objects, then what leads to them.
	if result.Decrypted {
		c.memorize(result.Key, s)
	} else if err := c.save(filepath.Join(c.dir, objectDir, result.Key), s); err != nil {
		return err
	}
	pasts = slices.DeleteFunc(pasts, func(p past) bool { return p.Key == result.Key })
	pasts = append([]past{{Key: result.Key, Inputs: result.Inputs}}, pasts...)
	return c.save(slot, pasts[:min(len(pasts), remembered)])
}

// memorize keeps a result in memory, and forgets the oldest over the limit.
func (c *Cached) memorize(key string, s stored) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.memory[key]; ok || s.size() > c.limits.MaxDecryptedBytes {
		return
	}
	c.memory[key] = s
	c.memorized = append(c.memorized, key)
	for c.held += s.size(); c.held > c.limits.MaxDecryptedBytes; c.memorized = c.memorized[1:] {
		oldest := c.memorized[0]
		c.held -= c.memory[oldest].size()
		delete(c.memory, oldest)
	}
}

func (c *Cached) recall(key string) (stored, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.memory[key]
	return s, ok
}

func (s stored) size() (n int64) {
	for _, o := range s.Objects {
		n += int64(len(o))
	}
	return n
}

// save writes a file at once: SHA-256 of what follows, and that in CBOR and
// zstd.
func (c *Cached) save(file string, v any) error {
	data, err := cbor.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", filepath.Base(file), err)
	}
	packed := c.encoder.EncodeAll(data, nil)
	sum := sha256.Sum256(packed)
	if err := replace(file, append(sum[:], packed...)); err != nil {
		return fmt.Errorf("write the render cache: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.size += int64(sha256.Size + len(packed)); c.size > c.limits.MaxBytes {
		return c.sweep()
	}
	return nil
}

// replace puts a file in the place of another one, whole or not at all while
// the machine runs. It is not synced: what a power loss leaves of it does not
// have its sum, and is rendered again.
func replace(file string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	if err := os.Rename(f.Name(), file); err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	return nil
}

func (c *Cached) load(file string, v any) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if len(data) < sha256.Size || sha256.Sum256(data[sha256.Size:]) != [sha256.Size]byte(data[:sha256.Size]) {
		_ = os.Remove(file)
		return fmt.Errorf("%s is damaged", filepath.Base(file))
	}
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(c.limits.MaxObjectBytes)*2))
	if err != nil {
		return err
	}
	defer decoder.Close()
	plain, err := decoder.DecodeAll(data[sha256.Size:], nil)
	if err != nil {
		return fmt.Errorf("unpack %s: %w", filepath.Base(file), err)
	}
	return c.decode.Unmarshal(plain, v)
}

// sweep counts the files and removes the oldest until they fit into nine
// tenths of the limit. c.mu is held.
func (c *Cached) sweep() error {
	type file struct {
		path string
		info fs.FileInfo
	}
	var files []file
	c.size = 0
	for _, sub := range []string{indexDir, objectDir} {
		dir := filepath.Join(c.dir, sub)
		entries, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("sweep the render cache: %w", err)
		}
		for _, e := range entries {
			if info, err := e.Info(); err == nil {
				files = append(files, file{filepath.Join(dir, e.Name()), info})
				c.size += info.Size()
			}
		}
	}
	if c.size <= c.limits.MaxBytes {
		return nil
	}
	sort.Slice(files, func(i, k int) bool { return files[i].info.ModTime().Before(files[k].info.ModTime()) })
	for _, f := range files {
		if c.size <= c.limits.MaxBytes/10*9 {
			break
		}
		if err := os.Remove(f.path); err == nil {
			c.size -= f.info.Size()
		}
	}
	return nil
}
