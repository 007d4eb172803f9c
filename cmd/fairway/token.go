package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/identity"
)

func newTokenCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Robots: users that are programs, and their tokens",
		Long: `Make, list and revoke robots: users that are programs, such as a CI job. A
robot is a ServiceAccount with a Role in each namespace where it may do
something, so Kubernetes' own tools show and change it as well.`,
		Args: cobra.NoArgs,
	}
	cmd.AddCommand(newTokenCreateCommand(g), newTokenListCommand(g), newTokenRevokeCommand(g))
	return cmd
}

// robots are those of the cluster, as the kubeconfig's user.
func (g *globals) robots() (*identity.Robots, error) {
	config, _, err := g.restConfig()
	if err != nil {
		return nil, err
	}
	config.WarningHandler = rest.NoWarnings{} // of shortened tokens: we say that ourselves
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client for the cluster: %w", err)
	}
	return identity.NewRobots(client), nil
}

type tokenCreateOptions struct {
	name       string
	namespace  string
	can        []string
	ttl        string
	kubernetes bool
	output     string
}

func newTokenCreateCommand(g *globals) *cobra.Command {
	o := &tokenCreateOptions{}
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a robot, or one more token of it, and print the token",
		Long: `Make the robot NAME with exactly the permissions of --can, and print a token of
it on standard output; it is kept nowhere and cannot be shown again. For a
robot that exists, leave --can out, or give the same again.

A permission is [repo:|image:]VERB:NAME:
  pull    fetch and clone the repository, pull the image
  push    and push to it
  create  and create it, where it is a repository that does not exist
  delete  pull, and delete it
Without repo: or image: it is for both. NAME is NAME, NAMESPACE/NAME, or '*'
in place of NAME for all of the namespace.

The token is good for Fairway's Git, registry and API alone; with --kubernetes
for the Kubernetes API too. How long it is good the cluster has the last word
on: the expiry that it gave is printed on standard error.`,
		Example: `  fairway token create ci --can push:web-app
  fairway token create ci --namespace team-a --can repo:pull:config --can image:push:'*' --ttl 30d
  fairway token create ci > token`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name = args[0]
			robots, err := g.robots()
			if err != nil {
				return err
			}
			return runTokenCreate(cmd.Context(), robots, o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.can, "can", nil, "what the robot may do, [repo:|image:]VERB:NAME; may be repeated")
	f.StringVarP(&o.namespace, "namespace", "n", core.DefaultNamespace, "namespace of the robot, and of names without one")
	f.StringVar(&o.ttl, "ttl", "90d", "lifetime of the token, such as 12h, 90d or 1y")
	f.BoolVar(&o.kubernetes, "kubernetes", false, "make the token good for the Kubernetes API too")
	f.StringVarP(&o.output, "output", "o", "", "json or yaml (default: the token alone)")
	return cmd
}

// issued is a new token as it is printed.
type issued struct {
	Name      string    `json:"name"`
	Namespace string    `json:"namespace"`
	User      string    `json:"user"`
	Can       []string  `json:"can"`
	Token     string    `json:"token"`
	Expires   time.Time `json:"expires"`
}

func runTokenCreate(ctx context.Context, robots *identity.Robots, o *tokenCreateOptions, out, log io.Writer) error {
	ttl, err := identity.ParseTTL(o.ttl)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	grants, err := identity.ParseGrants(o.can, o.namespace)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	if err := checkOutput(o.output); err != nil {
		return err
	}
	robot, err := robots.Ensure(ctx, o.namespace, o.name, grants)
	if err != nil {
		return hintForbidden(err)
	}
	audiences := []string{identity.Audience}
	if o.kubernetes {
		audiences = nil
	}
	asked := time.Now()
	token, err := robots.Token(ctx, robot, ttl, audiences...)
	if err != nil {
		return hintForbidden(err)
	}
	explainToken(log, robot, token, asked.Add(ttl))
	return printToken(out, o.output, issued{
		Name: robot.Name, Namespace: robot.Namespace, User: robot.User(), Can: canOf(robot),
		Token: token.Value, Expires: token.Expires,
	})
}

// explainToken says for people what the robot may do and how long.
func explainToken(log io.Writer, robot identity.Robot, token identity.Token, wanted time.Time) {
	if can := canOf(robot); len(can) > 0 {
		fmt.Fprintf(log, "robot %s/%s can %s\n", robot.Namespace, robot.Name, strings.Join(can, ", "))
	} else {
		fmt.Fprintf(log, "robot %s/%s can do nothing yet: give it --can, or a RoleBinding\n", robot.Namespace, robot.Name)
	}
	// A few seconds of difference are the request's own.
	const slack = time.Minute
	fmt.Fprintf(log, "the token expires at %s, in %s\n",
		token.Expires.Local().Format(time.RFC3339), duration.HumanDuration(time.Until(token.Expires)+slack))
	if token.Expires.Before(wanted.Add(-slack)) {
		fmt.Fprintln(log, "warning: the cluster gave it less time than was asked for")
	}
}

func printToken(out io.Writer, output string, t issued) error {
	if output == "" {
		_, err := fmt.Fprintln(out, t.Token)
		return err
	}
	return printAs(out, output, t)
}

func canOf(robot identity.Robot) []string {
	can := make([]string, len(robot.Grants))
	for i, g := range robot.Grants {
		can[i] = g.String()
	}
	return can
}

func newTokenListCommand(g *globals) *cobra.Command {
	var (
		namespace, output string
		all               bool
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the robots and what they may do",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			robots, err := g.robots()
			if err != nil {
				return err
			}
			if all {
				namespace = metav1.NamespaceAll
			}
			return runTokenList(cmd.Context(), robots, namespace, output, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVarP(&namespace, "namespace", "n", core.DefaultNamespace, "namespace of the robots")
	f.BoolVarP(&all, "all-namespaces", "A", false, "those of all namespaces")
	f.StringVarP(&output, "output", "o", "", "json or yaml (default: a table)")
	return cmd
}

func runTokenList(ctx context.Context, robots *identity.Robots, namespace, output string, out io.Writer) error {
	if err := checkOutput(output); err != nil {
		return err
	}
	list, err := robots.List(ctx, namespace)
	if err != nil {
		return hintForbidden(err)
	}
	if output != "" && output != "table" {
		return printAs(out, output, list)
	}
	t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "NAMESPACE\tNAME\tCAN\tAGE")
	for _, r := range list {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", r.Namespace, r.Name, strings.Join(canOf(r), ","), duration.HumanDuration(time.Since(r.Created)))
	}
	return t.Flush()
}

func newTokenRevokeCommand(g *globals) *cobra.Command {
	var namespace string
	cmd := &cobra.Command{
		Use:   "revoke NAME",
		Short: "End a robot and all of its tokens, within seconds",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			robots, err := g.robots()
			if err != nil {
				return err
			}
			robot, err := robots.Revoke(cmd.Context(), namespace, args[0])
			switch {
			case errors.Is(err, identity.ErrNoRobot):
				return withHint(err, "'fairway token list -A' shows those that there are")
			case err != nil:
				return hintForbidden(err)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "robot %s/%s is revoked; its tokens stop working within seconds\n", robot.Namespace, robot.Name)
			return nil
		},
	}
	cmd.Flags().StringVarP(&namespace, "namespace", "n", core.DefaultNamespace, "namespace of the robot")
	return cmd
}

func checkOutput(output string) error {
	switch output {
	case "", "table", "json", "yaml":
		return nil
	default:
		return &exitError{exitUsage, fmt.Errorf("--output %q: want json or yaml", output)}
	}
}

func printAs(out io.Writer, output string, v any) error {
	if output == "yaml" {
		data, err := yaml.Marshal(v)
		if err != nil {
			return err
		}
		_, err = out.Write(data)
		return err
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// hintForbidden says what managing robots needs.
func hintForbidden(err error) error {
	if !apierrors.IsForbidden(err) {
		return err
	}
	return withHint(err, "managing robots needs the ClusterRole admin in the namespaces concerned, and every permission that is granted")
}
