package render

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/fairway-cd/fairway/internal/core"
)

// The protocol between a Pool and its workers, over the worker's standard
// input and output. A message is a frame: its length in four bytes, big
// endian, and CBOR. The worker says hello once. Then the pool sends a job, the
// worker asks for what is in the trees, one question at a time, and ends the
// job with done. A call of a program is answered by its return, with no
// question between.

// toWorker is what a pool sends; one of the fields is set.
type toWorker struct {
	Job    *jobMessage    `cbor:"1,keyasint,omitempty"`
	Answer *answerMessage `cbor:"2,keyasint,omitempty"`
	Call   *callMessage   `cbor:"3,keyasint,omitempty"`
}

// toPool is what a worker sends; one of the fields is set.
type toPool struct {
	Hello  *helloMessage  `cbor:"1,keyasint,omitempty"`
	Query  *queryMessage  `cbor:"2,keyasint,omitempty"`
	Done   *doneMessage   `cbor:"3,keyasint,omitempty"`
	Return *returnMessage `cbor:"4,keyasint,omitempty"`
}

// helloMessage says which of the restrictions on itself a worker could set.
type helloMessage struct {
	Limits, Seccomp bool
}

// jobMessage is a Request without its trees.
type jobMessage struct {
	Path      string
	Refs      []string
	Tool      Tool
	Plain     PlainOptions
	Kustomize KustomizeOptions
	Helm      HelmOptions
	Limits    Limits
	Release   *releaseMessage
	// Decrypt says that the pool answers opDecrypt.
	Decrypt bool
}

// releaseMessage is a Request's Release without its function.
type releaseMessage struct {
	Revision       int
	Upgrade, Finds bool
}

type queryOp uint8

const (
	opEntry queryOp = iota + 1
	opList
	opRead
	opDecrypt // reads a file that may be encrypted
)

// queryMessage is one call of a core.Tree, or one Lookup.
type queryMessage struct {
	Op     queryOp
	Source string
	Path   string
	Lookup *Lookup `cbor:",omitempty"`
	// Name says the format, of opDecrypt.
	Name string `cbor:",omitempty"`
}

// answerMessage is what the call returned, and what may be asked for next.
type answerMessage struct {
	Entry    *core.TreeEntry
	List     []core.TreeEntry
	Content  []byte
	NotExist bool
	TooLarge *core.TooLargeError
	// Failed says that the tree could not be read. The pool knows why.
	Failed  bool
	Bundles []bundle
	// Refused is why a Lookup has no answer; Content is its answer in JSON.
	Refused string `cbor:",omitempty"`
	// Error is why a file cannot be decrypted.
	Error *errorMessage `cbor:",omitempty"`
}

// bundle is a directory's listing with its small files' contents, sent ahead
// of being asked for. What the tool does not touch of it does not count as
// read.
type bundle struct {
	Dir     string
	Entries []core.TreeEntry
	Files   map[string][]byte
}

// doneMessage is a Result or an error.
type doneMessage struct {
	Objects     [][]byte // JSON
	Release     *Release `cbor:",omitempty"`
	Tool        Tool
	Uncacheable string
	Inputs      []Input
	// ClearSecrets are the Result's.
	ClearSecrets []core.ObjectRef
	Warnings     []string
	Took         time.Duration
	Error        *errorMessage
	// Failed says that the render could not be done, for no fault of the
	// source's.
	Failed string
}

type errorMessage struct {
	Reason    Reason
	Path      string
	Line      int
	Msg, Hint string
}

// maxControl is the size of a message beside the contents in it.
const maxControl = 8 << 20

// conn is one end of the protocol.
type conn struct {
	r        *bufio.Reader
	w        io.Writer
	maxFrame int64
	decode   cbor.DecMode
	encode   cbor.EncMode
}

func newConn(r io.Reader, w io.Writer, maxFrame int64) *conn {
	decode, err := cbor.DecOptions{MaxNestedLevels: 16, MaxArrayElements: 1 << 20, MaxMapPairs: 1 << 20}.DecMode()
	if err != nil {
		panic(err) // constants
	}
	encode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err)
	}
	return &conn{r: bufio.NewReaderSize(r, 64<<10), w: w, maxFrame: maxFrame, decode: decode, encode: encode}
}

// send writes v as one frame.
func (c *conn) send(v any) error {
	data, err := c.encode.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode a message: %w", err)
	}
	frame := make([]byte, 4, 4+len(data))
	if int64(len(data)) > c.maxFrame {
		return &frameError{size: int64(len(data)), limit: c.maxFrame}
	}
	binary.BigEndian.PutUint32(frame, uint32(len(data)))
	_, err = c.w.Write(append(frame, data...))
	return err
}

// receive reads one frame into v. The end between two frames is io.EOF.
func (c *conn) receive(v any) error {
	data, err := readFrame(c.r, c.maxFrame)
	if err != nil {
		return err
	}
	if err := c.decode.Unmarshal(data, v); err != nil {
		return fmt.Errorf("decode a message: %w", err)
	}
	return nil
}

// frameError says that a frame is over the limit.
type frameError struct{ size, limit int64 }

func (e *frameError) Error() string {
	return fmt.Sprintf("a message of %d bytes is over the limit of %d", e.size, e.limit)
}

// readFrame allocates as the bytes arrive, not as the length announces.
func readFrame(r io.Reader, limit int64) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	size := int64(binary.BigEndian.Uint32(head[:]))
	if size > limit {
		return nil, &frameError{size: size, limit: limit}
	}
	if size <= 1<<20 {
		data := make([]byte, size)
		_, err := io.ReadFull(r, data)
		return data, noEOF(err)
	}
	data, err := io.ReadAll(io.LimitReader(r, size))
	if err == nil && int64(len(data)) < size {
		err = io.ErrUnexpectedEOF
	}
	return data, err
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// errMessage makes a message's error part of err.
func (d *doneMessage) setError(err error) {
	if e := asError(err); e != nil {
		d.Error = &errorMessage{Reason: e.Reason, Path: e.Path, Line: e.Line, Msg: e.Msg, Hint: e.hint}
		return
	}
	d.Failed = err.Error()
}

func (m *errorMessage) err() *Error {
	return &Error{Reason: m.Reason, Path: m.Path, Line: m.Line, Msg: m.Msg, hint: m.Hint}
}

func notExist(p string) error { return &fs.PathError{Op: "open", Path: p, Err: fs.ErrNotExist} }
