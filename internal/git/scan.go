package git

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
)

// event is an update that was not delivered yet, and the cursor once it is.
type event struct {
	core.RefUpdate
	next refCursor
}

// scan returns what happened to the given references, or to all where none
// are given, since the cursor: reference by reference, in the order of time. The
// caller holds r.mu.
//
// Git writes the line of the reflog first and moves the reference then. So the
// reference is read first: whatever it stands at, its line is there. A line
// counts once the reference stands at its new value, or a later line that
// counts starts from it. One whose process died in between stays without
// effect, and one whose process is on its way counts the next time.
func (r *repository) scan(names []string) ([]event, error) {
	current := map[string]string{}
	if names == nil {
		all, err := r.refs.list("refs/")
		if err != nil {
			return nil, err
		}
		current = all
		for name, c := range r.cursor.Refs {
			if _, there := all[name]; !there && c.Hash != "" {
				current[name] = ""
			}
		}
	}
	for _, name := range names {
		hash, err := r.refs.lookup(name)
		if err != nil {
			return nil, err
		}
		current[name] = hash
	}
	var groups [][]event
	for name, hash := range current {
		if strings.HasPrefix(name, ownRefs) {
			continue
		}
		events, err := r.scanRef(name, hash)
		if err != nil {
			return nil, err
		}
		if len(events) > 0 {
			groups = append(groups, events)
		}
	}
	slices.SortFunc(groups, func(a, b []event) int {
		return cmp.Or(a[0].When.Compare(b[0].When), strings.Compare(a[0].Ref, b[0].Ref))
	})
	return slices.Concat(groups...), nil
}

// scanRef returns what happened to one reference that stands at hash.
func (r *repository) scanRef(name, hash string) ([]event, error) {
	at := r.cursor.ref(name)
	if hash == "" {
		if at.Hash == "" {
			return nil, nil // never was, or is about to be
		}
		return []event{r.deleted(name, at)}, nil
	}
	lines, same, err := r.readLog(name, at)
	if err != nil {
		return nil, err
	}
	var events []event
	if !same {
		// The log is another one than that which we read. Where it begins with
		// a creation, the reference was deleted and made again; otherwise
		// somebody cut the log, and there is nothing to take from it.
		if len(lines) > 0 && lines[0].Old == "" {
			if at.Hash != "" {
				gone := r.deleted(name, at)
				events, at = append(events, gone), gone.next
			}
		} else {
			if n := len(lines); n > 0 {
				at.Start, at.End, at.Sum = lines[n-1].start, lines[n-1].end, lines[n-1].sum
			} else {
				at.Start, at.End, at.Sum = 0, 0, ""
			}
			lines = nil
		}
	}
	last := -1
	for i := range lines {
		if lines[i].New == hash {
			last = i
		}
	}
	for i := 0; i <= last; i++ {
		l := lines[i]
		if i < last && lines[i+1].Old != l.New {
			continue // its process died before the reference moved
		}
		next := refCursor{Generation: at.Generation, Hash: l.New, Start: l.start, End: l.end, Sum: l.sum}
		events = append(events, r.event(name, l.reflogLine, next, l.sum))
		at = next
	}
	if last < 0 && at.Hash != hash {
		// Moved without a log: packed in, or written by hand.
		next := at
		next.Hash, next.Gone = hash, time.Time{}
		l := reflogLine{Old: at.Hash, New: hash, When: time.Now().UTC().Truncate(time.Second)}
		events = append(events, r.event(name, l, next, "moved"))
	}
	return events, nil
}

func (r *repository) event(name string, l reflogLine, next refCursor, sum string) event {
	return event{next: next, RefUpdate: core.RefUpdate{
		ID:         r.eventID(name, next, sum, l.Old, l.New),
		Repository: r.name, URL: r.url,
		Ref: name, Old: l.Old, New: l.New, Who: l.Who, When: l.When,
	}}
}

func (r *repository) deleted(name string, at refCursor) event {
	now := time.Now().UTC().Truncate(time.Second)
	l := reflogLine{Old: at.Hash, When: now}
	if d, ok := r.cursor.Deleting[name]; ok {
		l.Who, l.When = d.Who, d.When
	}
	e := r.event(name, l, at, "deleted")
	e.next = refCursor{Generation: at.Generation + 1, Gone: now}
	return e
}

// eventID depends on nothing but the repository and its log, so that the same
// update has the same ID whenever it is read. It is a valid part of a
// Kubernetes object's name.
func (r *repository) eventID(name string, at refCursor, sum, old, new string) string {
	h := sha256.New()
	for _, s := range []string{r.cursor.ID, name, strconv.Itoa(at.Generation), strconv.FormatInt(at.End, 10), sum, old, new} {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil))[:32]
}

// loggedLine is a line of a reflog and where it stands.
type loggedLine struct {
	reflogLine
	start, end int64
	sum        string
}

// readLog returns the complete lines of the reference's log after at, and
// whether it is still the log that at speaks of; if not, all of its lines.
func (r *repository) readLog(name string, at refCursor) (lines []loggedLine, same bool, err error) {
	f, err := os.Open(filepath.Join(r.dir, "logs", filepath.FromSlash(name)))
	if errors.Is(err, fs.ErrNotExist) || isDirectoryError(err) {
		return nil, at.End == 0, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("reading the reflog: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.NewSectionReader(f, at.Start, 1<<62))
	if err != nil {
		return nil, false, fmt.Errorf("reading the reflog: %w", err)
	}
	seen := at.End - at.Start
	same = int64(len(data)) >= seen && (seen == 0 || lineSum(data[:seen]) == at.Sum)
	offset := at.End
	if same {
		data = data[seen:]
	} else {
		offset = 0
		if data, err = os.ReadFile(f.Name()); err != nil {
			return nil, false, fmt.Errorf("reading the reflog: %w", err)
		}
	}
	for len(data) > 0 {
		n := bytes.IndexByte(data, '\n') + 1
		if n == 0 {
			break // still being written
		}
		if l, ok := parseReflogLine(data[:n-1]); ok {
			lines = append(lines, loggedLine{reflogLine: l, start: offset, end: offset + int64(n), sum: lineSum(data[:n])})
		}
		data, offset = data[n:], offset+int64(n)
	}
	return lines, same, nil
}

func lineSum(line []byte) string {
	sum := sha256.Sum256(line)
	return hex.EncodeToString(sum[:16])
}
