package git

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"time"
)

// sizeAge is how old the size of a repository may be that Show says: to measure
// it is to look at each of its files.
const sizeAge = time.Minute

// lastSize is the size of a repository as it was not long ago. It is safe for
// concurrent use.
type lastSize struct {
	mu   sync.Mutex
	size int64
	at   time.Time
}

func (m *lastSize) of(dir string) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := time.Now(); m.at.IsZero() || now.Sub(m.at) >= sizeAge {
		size, err := diskSize(dir)
		if err != nil {
			return 0, err
		}
		m.size, m.at = size, now
	}
	return m.size, nil
}

// diskSize is the sum of the files below dir.
func diskSize(dir string) (int64, error) {
	var size int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return ignoreMissing(err)
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return ignoreMissing(err)
	})
	if err != nil {
		return 0, fmt.Errorf("measuring a repository: %w", err)
	}
	return size, nil
}
