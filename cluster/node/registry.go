package node

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/fsnotify/fsnotify"

	"github.com/fairway-cd/fairway/cluster/pki"
)

// RegistryConfig is a registry as the node reaches it. The main program writes
// a list of them, as JSON, to registry.json in the node's data directory
// (WriteRegistries) whenever it likes; the node's next pull goes by it.
type RegistryConfig struct {
	// Names are the hosts, with port, in image names that users write, such as
	// localhost:8080.
	Names []string `json:"names"`
	// Endpoint is the URL that the node pulls from instead.
	Endpoint string `json:"endpoint"`
	// CAFile is the certificate authority of an https endpoint on the host.
	CAFile string `json:"caFile,omitempty"`
	// Username and Password are the node's own.
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
}

// WriteRegistries tells the node of a data directory which registries there
// are. A node that runs sees the change at once.
func WriteRegistries(data string, registries []RegistryConfig) error {
	for _, r := range registries {
		if err := r.validate(); err != nil {
			return err
		}
	}
	content, err := json.MarshalIndent(registries, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding registries: %w", err)
	}
	return pki.WriteFile(filepath.Join(data, registryFile), content, 0o600)
}

func (r RegistryConfig) validate() error {
	u, err := url.Parse(r.Endpoint)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" {
		return fmt.Errorf("registry endpoint %q is not a URL", r.Endpoint)
	}
	for _, name := range r.Names {
		// A name becomes the name of a directory.
		if name == "" || strings.ContainsAny(name, "/\\ ") || strings.HasPrefix(name, ".") {
			return fmt.Errorf("registry name %q is not HOST:PORT", name)
		}
	}
	return nil
}

// registries keeps containerd's host directories as registry.json has them.
type registries struct {
	data string
	dir  string
	// inNode is dir as containerd sees it.
	inNode string
}

// run writes them again at each change until ctx ends.
func (r *registries) run(ctx context.Context) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watching the list of registries: %w", err)
	}
	defer watcher.Close()
	// The directory, since the file is replaced and not written to.
	if err := watcher.Add(r.data); err != nil {
		return fmt.Errorf("watching the list of registries: %w", err)
	}
	for {
		if err := r.sync(); err != nil {
			// The last good state stays; whoever wrote the file writes it again.
			slog.ErrorContext(ctx, "registries not taken over", "error", err)
		}
		if !r.changed(ctx, watcher) {
			return nil
		}
	}
}

// changed waits for the next change of the list. False: ctx has ended.
func (r *registries) changed(ctx context.Context, watcher *fsnotify.Watcher) bool {
	for {
		select {
		case event := <-watcher.Events:
			if filepath.Base(event.Name) == registryFile && !event.Has(fsnotify.Chmod) {
				return true
			}
		case err := <-watcher.Errors:
			slog.WarnContext(ctx, "changes of the list of registries may be lost", "error", err)
			return true
		case <-ctx.Done():
			return false
		}
	}
}

func (r *registries) sync() error {
	content, err := os.ReadFile(filepath.Join(r.data, registryFile))
	if errors.Is(err, fs.ErrNotExist) {
		content, err = []byte("[]"), nil
	}
	if err != nil {
		return fmt.Errorf("reading the list of registries: %w", err)
	}
	var list []RegistryConfig
	if err := json.Unmarshal(content, &list); err != nil {
		return fmt.Errorf("reading the list of registries: %w", err)
	}
	wanted := map[string]bool{}
	for _, registry := range list {
		if err := registry.validate(); err != nil {
			return err
		}
		for _, name := range registry.Names {
			wanted[name] = true
			if err := r.write(name, registry); err != nil {
				return err
			}
		}
	}
	return r.prune(wanted)
}

// write writes one host's directory, as containerd's hosts.toml wants it. All
// stands at the top of the file: with hosts of its own below, containerd would
// go on to the name itself where they fail, which is another machine's port.
func (r *registries) write(name string, c RegistryConfig) error {
	dir := filepath.Join(r.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the directory of registry %s: %w", name, err)
	}
	endpoint, err := quote(c.Endpoint)
	if err != nil {
		return err
	}
	toml := "server = " + endpoint + "\ncapabilities = [\"pull\", \"resolve\"]\n"
	if c.CAFile != "" {
		ca, err := os.ReadFile(c.CAFile)
		if err != nil {
			return fmt.Errorf("reading the authority of registry %s: %w", name, err)
		}
		if err := pki.WriteFile(filepath.Join(dir, "ca.crt"), ca, 0o644); err != nil {
			return err
		}
		file, err := quote(filepath.Join(r.inNode, name, "ca.crt"))
		if err != nil {
			return err
		}
		toml += "ca = " + file + "\n"
	}
	if c.Username != "" || c.Password != "" {
		credential := base64.StdEncoding.EncodeToString([]byte(c.Username + ":" + c.Password))
		toml += "[header]\nAuthorization = \"Basic " + credential + "\"\n"
	}
	return pki.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(toml), 0o600)
}

// prune removes the directories of names that are no longer there.
func (r *registries) prune(wanted map[string]bool) error {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return fmt.Errorf("listing registries: %w", err)
	}
	for _, entry := range entries {
		if !wanted[entry.Name()] {
			if err := os.RemoveAll(filepath.Join(r.dir, entry.Name())); err != nil {
				return fmt.Errorf("removing registry %s: %w", entry.Name(), err)
			}
		}
	}
	return nil
}
