package controller

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
)

// secretData reads a Secret.
func (e *Engine) secretData(ctx context.Context, key types.NamespacedName) (map[string][]byte, corev1.SecretType, error) {
	var s corev1.Secret
	if err := e.reader.Get(ctx, key, &s); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, "", &notThereError{"Secret", key}
		}
		return nil, "", fmt.Errorf("read secret '%s': %w", key, err)
	}
	return s.Data, s.Type, nil
}

// registryAuth are the credentials of a Secret for the host of at: a user's
// name and password, or what docker login writes.
func registryAuth(data map[string][]byte, kind corev1.SecretType, at string) (Auth, error) {
	if kind == corev1.SecretTypeDockerConfigJson || len(data[corev1.DockerConfigJsonKey]) > 0 {
		u, err := url.Parse(at)
		if err != nil {
			return Auth{}, errors.New("the URL is none")
		}
		return dockerAuth(data[corev1.DockerConfigJsonKey], u.Host)
	}
	if len(data["username"]) == 0 && len(data["password"]) == 0 {
		return Auth{}, errNoCredentials
	}
	return Auth{Username: string(data["username"]), Password: string(data["password"])}, nil
}

// dockerConfig is what docker login writes.
type dockerConfig struct {
	Auths map[string]struct {
		Username, Password, Auth string
	} `json:"auths"`
}

// dockerHub are the names of one registry.
var dockerHub = []string{"docker.io", "index.docker.io", "registry-1.docker.io"}

// dockerAuth finds the credentials for a host. Errors quote nothing of it.
func dockerAuth(content []byte, host string) (Auth, error) {
	var config dockerConfig
	if err := json.Unmarshal(content, &config); err != nil {
		return Auth{}, errors.New(".dockerconfigjson is not JSON of that form")
	}
	for name, entry := range config.Auths {
		if !sameRegistry(name, host) {
			continue
		}
		if entry.Auth == "" {
			return Auth{Username: entry.Username, Password: entry.Password}, nil
		}
		plain, err := base64.StdEncoding.DecodeString(entry.Auth)
		user, password, ok := strings.Cut(string(plain), ":")
		if err != nil || !ok {
			return Auth{}, fmt.Errorf("the auth of %s in .dockerconfigjson is not base64 of NAME:PASSWORD", host)
		}
		return Auth{Username: user, Password: password}, nil
	}
	return Auth{}, fmt.Errorf(".dockerconfigjson has no credentials for %s", host)
}

// sameRegistry: names are hosts, with a scheme and a path in older files.
func sameRegistry(name, host string) bool {
	name = strings.TrimPrefix(strings.TrimPrefix(name, "https://"), "http://")
	name, _, _ = strings.Cut(name, "/")
	if name == host {
		return true
	}
	hub := func(s string) bool {
		for _, h := range dockerHub {
			if s == h {
				return true
			}
		}
		return false
	}
	return hub(name) && hub(host)
}
