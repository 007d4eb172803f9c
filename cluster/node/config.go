package node

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"path/filepath"
	"text/template"

	"github.com/fairway-cd/fairway/cluster/node/inside"
	"github.com/fairway-cd/fairway/cluster/node/network"
	"github.com/fairway-cd/fairway/cluster/pki"
)

//go:embed config/*
var configFiles embed.FS

// settings is what the daemons' configuration depends on.
type settings struct {
	network.Plan
	Name string
	// API is the API server's URL as the node reaches it.
	API          string
	EtcDir       string
	ProgramDir   string
	PauseImage   string
	CoreDNSImage string
	Snapshotter  string
	RealLabel    string
}

// configs are the daemons' files, each from the template of its name.
var configs = []string{
	inside.ContainerdFile, "cni.conflist.tmpl", inside.KubeletFile, inside.ProxyFile, inside.ResolvFile,
}

func writeConfigs(dir string, s settings) error {
	for _, name := range configs {
		content, err := render(name, s)
		if err != nil {
			return err
		}
		if err := pki.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func render(name string, s settings) ([]byte, error) {
	t, err := template.New(name).
		// containerd has templates of its own in {{ }}.
		Delims("<<", ">>").
		// A JSON string is a TOML and a YAML string as well.
		Funcs(template.FuncMap{"quote": quote}).
		Option("missingkey=error").
		ParseFS(configFiles, "config/"+name)
	if err != nil {
		return nil, fmt.Errorf("parsing the template %s: %w", name, err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, s); err != nil {
		return nil, fmt.Errorf("writing %s: %w", name, err)
	}
	return b.Bytes(), nil
}

func quote(v any) (string, error) {
	b, err := json.Marshal(fmt.Sprint(v))
	return string(b), err
}
