package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/identity/keyring"
)

func newSecretsCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "secrets",
		Short: "Seal Secrets, to have them in Git",
		Long: `Seal Secrets with kubeseal, to have them in Git as SealedSecrets.

  kubeseal --format yaml < secret.yaml > sealed.yaml

In an embedded cluster kubeseal finds the certificate by itself. Elsewhere give
it the one that 'secrets cert' prints, by --cert or as SEALED_SECRETS_CERT in its
environment, and use 'secrets verify' and 'secrets rotate' in place of
'kubeseal --validate' and 'kubeseal --re-encrypt'.`,
		Args: cobra.NoArgs,
		RunE: runGroup,
	}
	g.addServerFlag(cmd)
	cmd.AddCommand(newSecretsCertCommand(g), newSecretsVerifyCommand(g), newSecretsRotateCommand(g))
	return cmd
}

func newSecretsCertCommand(g *globals) *cobra.Command {
	url := false
	cmd := &cobra.Command{
		Use:   "cert",
		Short: "Print the certificate that Secrets are sealed with",
		Long: `Print the certificate that Secrets are sealed with. It is public, and replaced by
a new one every 30 days; what was sealed with an older one still opens.`,
		Example: "  fairway secrets cert > cert.pem\n  export SEALED_SECRETS_CERT=\"$(fairway secrets cert --url)\"",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.api(cmd.Context())
			if err != nil {
				return err
			}
			if url {
				fmt.Fprintln(cmd.OutOrStdout(), c.server.String()+certPath)
				return nil
			}
			certificate, err := c.sealing(cmd.Context(), http.MethodGet, certPath, nil)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(certificate)
			return err
		},
	}
	cmd.Flags().BoolVar(&url, "url", false, "print the certificate's address instead")
	return cmd
}

// The paths of sealed-secrets' controller.
const (
	certPath   = "/v1/cert.pem"
	verifyPath = "/v1/verify"
	rotatePath = "/v1/rotate"
)

func newSecretsVerifyCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "verify FILE",
		Short:   "Say whether a SealedSecret opens here",
		Long:    "Say whether a SealedSecret, in YAML or JSON, opens with the keys that are here. FILE may be - for the standard input.",
		Example: "  fairway secrets verify sealed.yaml",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := g.sendSealed(cmd, args[0], verifyPath)
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), "It opens.")
			}
			return err
		},
	}
}

func newSecretsRotateCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "rotate FILE",
		Short: "Seal a SealedSecret again, with the newest key",
		Long: `Print a SealedSecret, in YAML, whose values are sealed again with the newest key.
They are not shown. FILE may be - for the standard input.`,
		Example: "  fairway secrets rotate sealed.yaml > new.yaml",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			answer, err := g.sendSealed(cmd, args[0], rotatePath)
			if err != nil {
				return err
			}
			text, err := yaml.JSONToYAML(answer)
			if err != nil {
				return fmt.Errorf("reading the server's answer: %w", err)
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
}

// sendSealed sends the SealedSecret of a file to a path.
func (g *globals) sendSealed(cmd *cobra.Command, file, path string) ([]byte, error) {
	in := cmd.InOrStdin()
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	const maxSealed = 2 << 20
	text, err := io.ReadAll(io.LimitReader(in, maxSealed+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	if len(text) > maxSealed {
		return nil, &core.TooLargeError{What: file, Size: int64(len(text)), Limit: maxSealed}
	}
	body, err := yaml.YAMLToJSON(text)
	if err != nil {
		return nil, fmt.Errorf("%s is no YAML", file)
	}
	c, err := g.api(cmd.Context())
	if err != nil {
		return nil, err
	}
	return c.sealing(cmd.Context(), http.MethodPost, path, body)
}

// sealing speaks the protocol of sealed-secrets' controller, whose answers are
// not those of our API.
func (c *apiClient) sealing(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.server.String()+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	answer, err := c.http.Do(req)
	if err != nil {
		return nil, keyring.Unreached(c.server, err)
	}
	defer answer.Body.Close()
	const maxAnswer = 4 << 20
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("reading the server's answer: %w", err)
	}
	if answer.StatusCode >= 300 {
		return nil, fmt.Errorf("the server refuses: %s", strings.TrimSpace(string(data)))
	}
	return data, nil
}
