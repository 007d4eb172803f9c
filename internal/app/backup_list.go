package app

import (
	"errors"
	"io"

	"github.com/fairway-cd/fairway/internal/backup"
)

// BackupInfo is what there is to know about a backup.
type BackupInfo struct {
	backup.Manifest
	Counts backup.Counts `json:"counts"`
	// Repositories and Images are the names of what is in it.
	Repositories []string `json:"repositories"`
	Images       []string `json:"images"`
}

// ReadBackup reads a backup to its end, and says what is in it. What is not
// whole is a *backup.Error.
func ReadBackup(r io.Reader) (BackupInfo, error) {
	b, err := backup.NewReader(r)
	if err != nil {
		return BackupInfo{}, err
	}
	defer b.Close()
	info := BackupInfo{Manifest: b.Manifest, Repositories: []string{}, Images: []string{}}
	for {
		m, err := b.Next()
		if errors.Is(err, io.EOF) {
			info.Counts = b.Counts
			return info, nil
		}
		if err != nil {
			return BackupInfo{}, err
		}
		switch m.Kind {
		case backup.Repository:
			info.Repositories = append(info.Repositories, m.Name.String())
		case backup.Image:
			info.Images = append(info.Images, m.Name.String())
		}
	}
}
