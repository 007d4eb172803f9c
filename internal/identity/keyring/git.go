package keyring

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
)

// UseInGit makes the user's git ask this program for the server's credential,
// as PROGRAM credential OPERATION, and none of the user's other helpers, which
// would each keep a copy. With ca, in PEM, git trusts it for this server; it is
// kept beside the keyring.
func (k *Keyring) UseInGit(ctx context.Context, s Server, program string, ca []byte) error {
	caFile := ""
	if len(ca) > 0 {
		caFile = k.caPath(s)
		if err := os.MkdirAll(filepath.Dir(caFile), 0o700); err != nil {
			return fmt.Errorf("making the directory for authorities: %w", err)
		}
		if err := renameio.WriteFile(caFile, ca, 0o600); err != nil {
			return fmt.Errorf("keeping the server's certificate authority: %w", err)
		}
	}
	for _, alias := range s.aliases() {
		helper := "credential." + alias.String() + ".helper"
		// An empty value ends the list of helpers that were named before.
		if err := git(ctx, "config", "--global", "--replace-all", helper, ""); err != nil {
			return err
		}
		// git gives this to a shell.
		if err := git(ctx, "config", "--global", "--add", helper, "!"+shellQuote(program)+" credential"); err != nil {
			return err
		}
		if caFile == "" {
			continue
		}
		if err := git(ctx, "config", "--global", "http."+alias.String()+".sslCAInfo", caFile); err != nil {
			return err
		}
	}
	return nil
}

// LeaveGit takes back what UseInGit did.
func (k *Keyring) LeaveGit(ctx context.Context, s Server) error {
	for _, alias := range s.aliases() {
		for _, name := range []string{"credential." + alias.String() + ".helper", "http." + alias.String() + ".sslCAInfo"} {
			if err := git(ctx, "config", "--global", "--unset-all", name); err != nil && !isNotSet(err) {
				return err
			}
		}
	}
	if err := os.Remove(k.caPath(s)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("forgetting the server's certificate authority: %w", err)
	}
	return nil
}

// CA is the authority, in PEM, that a login kept for the server; nil where
// there is none.
func (k *Keyring) CA(s Server) ([]byte, error) {
	ca, err := os.ReadFile(k.caPath(s))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("reading the server's certificate authority: %w", err)
	}
	return ca, nil
}

// caPath is where the authority of a server is kept. A host has no slash.
func (k *Keyring) caPath(s Server) string {
	return filepath.Join(k.dir, "ca", strings.ReplaceAll(s.host, ":", "_")+".pem")
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// isNotSet says whether git config found nothing to unset: exit status 5.
func isNotSet(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() == 5
}

func git(ctx context.Context, args ...string) error {
	if out, err := exec.CommandContext(ctx, "git", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("git %s: %w: %s", strings.Join(args[:2], " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
