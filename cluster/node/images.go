package node

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/fairway-cd/fairway/cluster/node/image"
	"github.com/fairway-cd/fairway/cluster/node/inside"
)

// imageRepository is where the node's own images would be, were they pulled.
const imageRepository = "registry.fairway-cd.io/node/"

// prepareImages leaves an archive of each program's image in dir. An image is
// named after its program's content: what has the name need not be looked at.
func prepareImages(l inside.Layout) (map[string]inside.Image, error) {
	images := map[string]inside.Image{}
	for _, program := range []string{"pause", "coredns"} {
		binary := filepath.Join(l.Programs, program)
		digest, err := digestOf(binary)
		if err != nil {
			return nil, err
		}
		i := inside.Image{Name: imageRepository + program + ":" + digest[:16], File: program + "-" + digest[:16] + ".tar"}
		images[program] = i
		archive := filepath.Join(l.Images, i.File)
		if _, err := os.Stat(archive); err == nil {
			continue
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("looking for an image's archive: %w", err)
		}
		if err := writeImage(archive, i.Name, binary, "/"+program); err != nil {
			return nil, err
		}
	}
	return images, nil
}

func writeImage(archive, name, binary, to string) error {
	img, err := image.Build(image.Spec{
		Architecture: runtime.GOARCH,
		Files:        []image.File{{From: binary, To: to, Mode: 0o755}},
		Entrypoint:   []string{to},
	})
	if err != nil {
		return err
	}
	// Renamed at the end: an archive that is there is whole.
	temp := archive + ".tmp"
	if err := image.WriteArchive(temp, name, img); err != nil {
		return err
	}
	return os.Rename(temp, archive)
}

func digestOf(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("reading a program of the node: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("reading a program of the node: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
