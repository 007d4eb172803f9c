package git

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// seenLog remembers for a while what was taken once, across restarts: a file
// of lines "SECONDS SP ID", appended to, and rewritten when it is twice as long
// as it needs to be.
type seenLog struct {
	path   string
	window time.Duration

	mu    sync.Mutex
	ids   map[string]bool
	order []seenEntry // the oldest first
	lines int         // in the file
}

type seenEntry struct {
	when time.Time
	id   string
}

// maxSeen bounds what is remembered; beyond, the oldest is forgotten.
const maxSeen = 20_000

func loadSeenLog(path string, window time.Duration) (*seenLog, error) {
	l := &seenLog{path: path, window: window, ids: map[string]bool{}}
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the webhooks taken before: %w", err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		l.lines++
		seconds, id, ok := strings.Cut(lines.Text(), " ")
		n, err := strconv.ParseInt(seconds, 10, 64)
		if !ok || err != nil || len(id) != 64 {
			continue // cut short by a crash: that delivery was not answered
		}
		l.remember(seenEntry{time.Unix(n, 0), id})
	}
	l.forget(time.Now())
	return l, l.compact()
}

// add remembers id, and says whether it is new. It is durable on return.
func (l *seenLog) add(id string, now time.Time) (fresh bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget(now)
	if l.ids[id] {
		return false, nil
	}
	if err := l.append(seenEntry{now, id}); err != nil {
		return false, err
	}
	l.remember(seenEntry{now, id})
	if l.lines > 2*maxSeen {
		return true, l.compact()
	}
	return true, nil
}

func (l *seenLog) remember(e seenEntry) {
	if !l.ids[e.id] {
		l.ids[e.id] = true
		l.order = append(l.order, e)
	}
}

func (l *seenLog) forget(now time.Time) {
	n := 0
	for n < len(l.order) && (len(l.order)-n > maxSeen || now.Sub(l.order[n].when) > l.window) {
		delete(l.ids, l.order[n].id)
		n++
	}
	l.order = l.order[n:]
}

func (l *seenLog) append(e seenEntry) error {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("remembering a webhook: %w", err)
	}
	_, err = f.WriteString(e.line())
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("remembering a webhook: %w", err)
	}
	l.lines++
	return nil
}

func (l *seenLog) compact() error {
	var b strings.Builder
	for _, e := range l.order {
		b.WriteString(e.line())
	}
	if err := writeDurably(l.path, []byte(b.String()), 0o600); err != nil {
		return err
	}
	l.lines = len(l.order)
	return nil
}

func (e seenEntry) line() string { return fmt.Sprintf("%d %s\n", e.when.Unix(), e.id) }
