package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/spf13/pflag"

	"github.com/fairway-cd/fairway/cluster/node/image"
)

// runImage makes an image archive out of static programs:
//
//	fairway-cluster image --tag NAME:TAG --output FILE.tar --file PROGRAM=/PATH /PATH [ARG…]
func runImage(args []string) int {
	if err := makeImage(args); err != nil {
		fmt.Fprintln(os.Stderr, "fairway-cluster image:", err)
		return 1
	}
	return 0
}

func makeImage(args []string) error {
	fs := pflag.NewFlagSet("image", pflag.ContinueOnError)
	tag := fs.String("tag", "", "the image's name and tag (required)")
	output := fs.String("output", "", "archive to write (required)")
	user := fs.String("user", "", "uid to run as; empty: root")
	files := fs.StringArray("file", nil, "a file of the image, as FROM=TO; may be given again")
	fs.SetInterspersed(false) // The rest is the entrypoint, flags of its own included.
	if err := fs.Parse(args[1:]); err != nil {
		return err
	}
	spec := image.Spec{Architecture: runtime.GOARCH, Entrypoint: fs.Args(), User: *user}
	for _, f := range *files {
		from, to, ok := strings.Cut(f, "=")
		if !ok {
			return fmt.Errorf("--file %s is not FROM=TO", f)
		}
		spec.Files = append(spec.Files, image.File{From: from, To: to, Mode: 0o755})
	}
	img, err := image.Build(spec)
	if err != nil {
		return err
	}
	return image.WriteArchive(*output, *tag, img)
}
