package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/fairway-cd/fairway/internal/app"
	"github.com/fairway-cd/fairway/internal/identity/keyring"
)

// loginOptions are what a login needs; an empty server is the instance.
type loginOptions struct {
	*globals
	server     string
	token      string
	tokenStdin bool
	caFile     string
}

func newLoginCommand(g *globals) *cobra.Command {
	o := &loginOptions{globals: g}
	cmd := &cobra.Command{
		Use:   "login [SERVER]",
		Short: "Keep a token for git and registry clients",
		Long: `Ask the server whether it takes the token, and keep it on this machine: git
gets it from a credential helper for this server alone ('fairway credential'),
and registry clients (docker, podman, skopeo, crane) from Docker's
configuration or the credential store that is set there. Commands with --server
use it too.

Without SERVER it is the instance on this machine, and its operator's token
where none is given. For another server the token is asked for; 'fairway token
create' makes one there.`,
		Example: `  fairway login
  fairway login https://fairway.example.com --token-stdin < token
  fairway token create laptop --can push:web-app | fairway login --token-stdin`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.server = args[0]
			}
			return runLogin(cmd.Context(), o, cmd.InOrStdin(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.token, "token", "", "the token; others on this machine may see it: better --token-stdin")
	f.BoolVar(&o.tokenStdin, "token-stdin", false, "read the token from standard input")
	f.StringVar(&o.caFile, "ca", "", "certificate authority of the server, PEM")
	cmd.MarkFlagsMutuallyExclusive("token", "token-stdin")
	return cmd
}

func runLogin(ctx context.Context, o *loginOptions, in io.Reader, log io.Writer) error {
	server, caFile, err := o.resolve(ctx)
	if err != nil {
		return err
	}
	var ca []byte
	if caFile != "" {
		if ca, err = os.ReadFile(caFile); err != nil {
			return fmt.Errorf("--ca: %w", err)
		}
	}
	token, err := o.readToken(in, log)
	if err != nil {
		return err
	}
	if err := keyring.Verify(ctx, server, token, ca); err != nil {
		return err
	}
	ring, err := keyring.Default()
	if err != nil {
		return err
	}
	if err := ring.Put(server, token); err != nil {
		return err
	}
	self, err := app.Self()
	if err != nil {
		return err
	}
	switch err := ring.UseInGit(ctx, server, self, ca); {
	case errors.Is(err, exec.ErrNotFound):
		fmt.Fprintln(log, "git is not installed, and so not set up")
	case err != nil:
		return err
	}
	if err := keyring.UseInRegistryClients(server, token); err != nil {
		return err
	}
	fmt.Fprintf(log, "logged in to %s, for git and registry clients\n", server)
	if len(ca) > 0 && strings.HasPrefix(server.String(), "https:") {
		fmt.Fprintf(log, "registry clients must be told to trust %s, for docker as /etc/docker/certs.d/%s/ca.crt\n", caFile, server.Host())
	}
	return nil
}

// resolve says which server is meant, and which authority to trust for it.
func (o *loginOptions) resolve(ctx context.Context) (keyring.Server, string, error) {
	if o.server != "" {
		server, err := keyring.ParseServer(o.server)
		return server, o.caFile, err
	}
	inst, err := o.instance()
	if err != nil {
		return keyring.Server{}, "", err
	}
	if !inst.Running() {
		return keyring.Server{}, "", withHint(errors.New("the instance in "+inst.Dir()+" is not up"), "start it with 'fairway up', or name a server")
	}
	server, err := keyring.ParseServer(inst.URL())
	return server, o.caFile, err
}

// maxTokenInput bounds what is read for a token; servers take no longer ones.
const maxTokenInput = 16 << 10

func (o *loginOptions) readToken(in io.Reader, log io.Writer) (string, error) {
	var token string
	switch terminal, isFile := in.(*os.File); {
	case o.token != "":
		token = o.token
	case o.tokenStdin:
		data, err := io.ReadAll(io.LimitReader(in, maxTokenInput))
		if err != nil {
			return "", fmt.Errorf("reading the token: %w", err)
		}
		token = string(data)
	case o.server == "":
		// Who may read the instance's directory is its operator already.
		inst, err := o.instance()
		if err != nil {
			return "", err
		}
		if token, err = inst.Token(); err != nil {
			return "", err
		}
	case isFile && term.IsTerminal(int(terminal.Fd())):
		fmt.Fprint(log, "Token: ")
		data, err := term.ReadPassword(int(terminal.Fd()))
		fmt.Fprintln(log)
		if err != nil {
			return "", fmt.Errorf("reading the token: %w", err)
		}
		token = string(data)
	}
	if token = strings.TrimSpace(token); token == "" {
		return "", &exitError{exitUsage, withHint(errors.New("no token given"), "give it with --token-stdin; 'fairway token create' makes one")}
	}
	return token, nil
}

func newLogoutCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "logout [SERVER]",
		Short: "Forget the token for git and registry clients",
		Long: `Forget the token that 'fairway login' kept on this machine. The token itself
stays good until it expires; 'fairway token revoke' ends it.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runLogout(cmd.Context(), g, args, cmd.ErrOrStderr())
		},
	}
}

func runLogout(ctx context.Context, g *globals, args []string, log io.Writer) error {
	address := ""
	if len(args) > 0 {
		address = args[0]
	} else {
		inst, err := g.instance()
		if err != nil {
			return err
		}
		address = inst.URL()
	}
	server, err := keyring.ParseServer(address)
	if err != nil {
		return err
	}
	ring, err := keyring.Default()
	if err != nil {
		return err
	}
	if err := ring.Delete(server); err != nil {
		return err
	}
	if err := ring.LeaveGit(ctx, server); err != nil && !errors.Is(err, exec.ErrNotFound) {
		return err
	}
	if err := keyring.LeaveRegistryClients(server); err != nil {
		return err
	}
	fmt.Fprintf(log, "logged out of %s\n", server)
	return nil
}

// newCredentialCommand is what git runs.
func newCredentialCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "credential get|store|erase",
		Short:  "Answer git as its credential helper",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ring, err := keyring.Default()
			if err != nil {
				return err
			}
			return ring.Help(args[0], cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}
