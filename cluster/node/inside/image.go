package inside

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	// imageNamespace is where containerd keeps the images of Kubernetes.
	imageNamespace = "k8s.io"
	socketPoll     = 10 * time.Millisecond
)

// importImages waits for containerd and gives it the images that it lacks.
func importImages(ctx context.Context, r *reaper, images []Image) error {
	if err := waitSocket(ctx, containerdSocket); err != nil {
		return err
	}
	there, err := listImages(ctx, r)
	if err != nil {
		return err
	}
	for _, image := range images {
		if there[image.Name] {
			continue
		}
		err := ctr(ctx, r, filepath.Join(LogDir, "import.log"),
			"images", "import", "--local", "--label", "io.cri-containerd.pinned=pinned", filepath.Join(imagesDir, image.File))
		if err != nil {
			return fmt.Errorf("importing image %s: %w", image.Name, err)
		}
	}
	return nil
}

func listImages(ctx context.Context, r *reaper) (map[string]bool, error) {
	list := filepath.Join("/run", "images.list")
	defer os.Remove(list)
	if err := ctr(ctx, r, list, "images", "list", "--quiet"); err != nil {
		return nil, fmt.Errorf("listing images: %w", err)
	}
	f, err := os.Open(list)
	if err != nil {
		return nil, fmt.Errorf("listing images: %w", err)
	}
	defer f.Close()
	there := map[string]bool{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		there[lines.Text()] = true
	}
	return there, lines.Err()
}

// ctr runs containerd's client with its output to a file.
func ctr(ctx context.Context, r *reaper, outFile string, args ...string) error {
	out, err := os.OpenFile(outFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	defer out.Close()
	args = append([]string{filepath.Join(ProgramDir, "ctr"), "--address", containerdSocket, "--namespace", imageNamespace}, args...)
	pid, ended, err := r.start(args, os.Environ(), out)
	if err != nil {
		return err
	}
	select {
	case status := <-ended:
		if status.ExitStatus() != 0 {
			return fmt.Errorf("ctr ended with %d, see %s", status.ExitStatus(), outFile)
		}
		return nil
	case <-ctx.Done():
		stop(pid, ended)
		return ctx.Err()
	}
}

func waitSocket(ctx context.Context, path string) error {
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "unix", path)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-time.After(socketPoll):
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", path, ctx.Err())
		}
	}
}
