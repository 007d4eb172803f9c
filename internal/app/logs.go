package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

const (
	// maxLog is how large a log gets before it is set aside, once.
	maxLog = 32 << 20
	// logCheck is how often the logs are looked at.
	logCheck = 10 * time.Second
)

// openLog opens a log file for appending.
func openLog(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("opening the log: %w", err)
	}
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// keepLogs sets aside the logs that have grown over the limit, until ctx ends.
//
// The files belong to processes that write to them by themselves, so that
// nothing is lost where this one is killed, and no pipe keeps a child from
// ending. So none can be renamed below its writer, as log libraries do: what
// is in it is copied and cut off, like logrotate's copytruncate, which all
// that is opened for appending survives. A line written between the two is
// lost.
func (i *Instance) keepLogs(ctx context.Context, limit int64, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		logs, err := filepath.Glob(i.logName("*.log"))
		if err != nil {
			return err // the pattern is ours
		}
		for _, path := range logs {
			if err := rotate(path, limit); err != nil {
				slog.Error("setting a log aside", "log", path, "error", err)
			}
		}
	}
}

// rotate moves what is in the log to path.1, where it is over the limit. What
// cannot be kept, as on a full disk, is given up at twice the limit.
func rotate(path string, limit int64) error {
	info, err := os.Stat(path)
	if err != nil || info.Size() <= limit {
		return err
	}
	if err := setAside(path); err != nil && info.Size() <= 2*limit {
		return err
	}
	return os.Truncate(path, 0)
}

func setAside(path string) error {
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(path+".1", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	if cerr := to.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = os.Remove(to.Name())
	}
	return err
}

// tail is the end of a log, to show to people when something did not start.
func tail(path string, size int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if _, err := f.Seek(-size, io.SeekEnd); err != nil {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return ""
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, size))
	if err != nil {
		return ""
	}
	return string(data)
}
