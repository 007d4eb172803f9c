package keyring

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"
)

// UserName is sent with a token where a protocol wants a user name. The server
// does not look at it.
const UserName = "fairway"

// Keyring is a file of tokens that only its owner can read.
type Keyring struct {
	dir string
}

// contents is the file.
type contents struct {
	Servers map[string]entry `json:"servers"`
}

type entry struct {
	Token string `json:"token"`
}

// Open returns the keyring in a directory, which is made when it is needed.
func Open(dir string) *Keyring { return &Keyring{dir: dir} }

// Default returns the user's keyring: in fairway below the user's directory for
// configuration (XDG_CONFIG_HOME, ~/.config).
func Default() (*Keyring, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return nil, fmt.Errorf("finding the directory for configuration: %w", err)
	}
	return Open(filepath.Join(dir, "fairway")), nil
}

// Path is the file.
func (k *Keyring) Path() string { return filepath.Join(k.dir, "credentials.json") }

// Token returns the token for a server, and whether there is one.
func (k *Keyring) Token(s Server) (string, bool, error) {
	c, err := k.read()
	if err != nil {
		return "", false, err
	}
	for _, alias := range s.aliases() {
		if e, ok := c.Servers[alias.String()]; ok {
			return e.Token, true, nil
		}
	}
	return "", false, nil
}

// Put keeps a token for a server in place of an earlier one.
func (k *Keyring) Put(s Server, token string) error {
	return k.change(func(c *contents) {
		for _, alias := range s.aliases() {
			delete(c.Servers, alias.String())
		}
		c.Servers[s.String()] = entry{Token: token}
	})
}

// Delete forgets the token for a server, if there is one.
func (k *Keyring) Delete(s Server) error {
	return k.change(func(c *contents) {
		for _, alias := range s.aliases() {
			delete(c.Servers, alias.String())
		}
	})
}

func (k *Keyring) read() (*contents, error) {
	c := &contents{Servers: map[string]entry{}}
	data, err := os.ReadFile(k.Path())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return c, nil
	case err != nil:
		return nil, fmt.Errorf("reading the keyring: %w", err)
	}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("reading the keyring %s: %w", k.Path(), err)
	}
	if c.Servers == nil {
		c.Servers = map[string]entry{}
	}
	return c, nil
}

// change reads, changes and writes the file, while no other process does.
func (k *Keyring) change(f func(*contents)) (err error) {
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return fmt.Errorf("making the keyring's directory: %w", err)
	}
	lock := flock.New(filepath.Join(k.dir, "credentials.lock"), flock.SetPermissions(0o600))
	if err := lock.Lock(); err != nil {
		return fmt.Errorf("locking the keyring: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	c, err := k.read()
	if err != nil {
		return err
	}
	f(c)
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the keyring: %w", err)
	}
	if err := renameio.WriteFile(k.Path(), append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("writing the keyring: %w", err)
	}
	return nil
}
