package main

import (
	"strings"
	"time"

	"github.com/moby/buildkit/util/resolver/config"
	"github.com/spf13/cobra"

	"github.com/fairway-cd/fairway/internal/app"
	"github.com/fairway-cd/fairway/internal/build"
	"github.com/fairway-cd/fairway/internal/build/engine"
)

// newBuildEngineCommand is what builds run on: our own binary, on a socket.
func newBuildEngineCommand() *cobra.Command {
	o := engine.Options{}
	var mirrors []string
	cmd := &cobra.Command{
		Use:    build.EngineCommand,
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.Runtime, err = app.ContainerRuntime(); err != nil {
				return err
			}
			o.Registries = map[string]config.RegistryConfig{}
			for _, m := range mirrors {
				host, mirror, ok := strings.Cut(m, "=")
				if !ok {
					return usage("--mirror is HOST=MIRROR")
				}
				c := o.Registries[host]
				c.Mirrors = append(c.Mirrors, mirror)
				o.Registries[host] = c
				plain := true
				o.Registries[mirror] = config.RegistryConfig{PlainHTTP: &plain}
			}
			return engine.Serve(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&o.Root, "root", "", "directory of the engine")
	cmd.Flags().StringArrayVar(&mirrors, "mirror", nil, "HOST=MIRROR: where a registry's images are looked for first")
	cmd.Flags().Int64Var(&o.CacheBytes, "cache-bytes", 0, "what the cache may hold")
	cmd.Flags().DurationVar(&o.Idle, "idle", 5*time.Minute, "ends when nobody was connected for that long")
	return cmd
}
