package controller

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The label by which Argo CD finds the Secrets that hold credentials: for one
// repository, or for all whose URL begins with the Secret's.
const (
	labelSecretType    = "argocd.argoproj.io/secret-type"
	secretRepository   = "repository"
	secretRepoTemplate = "repo-creds"
)

// repositoryAuth returns the credentials that Argo CD's Secrets have for url;
// none for embedded repositories, which we read ourselves. An exact match
// wins, then the longest prefix.
func (e *Engine) repositoryAuth(ctx context.Context, url string) (Auth, error) {
	if _, embedded := e.stages.Sources.Embedded(url); embedded {
		return Auth{}, nil
	}
	var secrets corev1.SecretList
	err := e.reader.List(ctx, &secrets, client.InNamespace(e.opts.ArgoNamespace), client.HasLabels{labelSecretType})
	if err != nil {
		return Auth{}, fmt.Errorf("look for credentials: %w", err)
	}
	var best *corev1.Secret
	longest := 0
	want := normalURL(url)
	for i := range secrets.Items {
		s := &secrets.Items[i]
		have := normalURL(string(s.Data["url"]))
		switch s.Labels[labelSecretType] {
		case secretRepository:
			if have == want && hasCredentials(s) {
				return argoAuth(s), nil
			}
		case secretRepoTemplate:
			if covers(have, want) && len(have) > longest {
				best, longest = s, len(have)
			}
		}
	}
	if best == nil {
		return Auth{}, nil
	}
	return argoAuth(best), nil
}

// covers: a template's URL stands for the repositories below it. It ends with
// a whole part of the path, so that the credentials for one host or owner do
// not go to another whose name begins the same.
func covers(template, url string) bool {
	rest, below := strings.CutPrefix(url, template)
	if template == "" || !below {
		return false
	}
	return rest == "" || rest[0] == '/' || strings.HasSuffix(template, ":")
}

// normalURL is the URL without what makes no difference.
func normalURL(url string) string {
	return strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(strings.TrimSpace(url)), "/"), ".git")
}

// hasCredentials: a repository's Secret without any leaves them to a template.
func hasCredentials(s *corev1.Secret) bool {
	return len(s.Data["password"])+len(s.Data["sshPrivateKey"])+len(s.Data["bearerToken"]) > 0
}

func argoAuth(s *corev1.Secret) Auth {
	return Auth{
		Username:    string(s.Data["username"]),
		Password:    string(s.Data["password"]),
		BearerToken: string(s.Data["bearerToken"]),
		SSHIdentity: s.Data["sshPrivateKey"],
		CA:          s.Data["tlsClientCertCA"],
		ClientCert:  s.Data["tlsClientCertData"],
		ClientKey:   s.Data["tlsClientCertKey"],
		Insecure:    string(s.Data["insecure"]) == "true",
	}
}

// fluxAuth reads the Secret that a GitRepository refers to.
func (e *Engine) fluxAuth(ctx context.Context, key types.NamespacedName) (Auth, error) {
	var s corev1.Secret
	if err := e.reader.Get(ctx, key, &s); err != nil {
		if apierrors.IsNotFound(err) {
			return Auth{}, fmt.Errorf("secret %q is not there", key)
		}
		return Auth{}, fmt.Errorf("read secret %q: %w", key, err)
	}
	a := Auth{
		Username:      string(s.Data["username"]),
		Password:      string(s.Data["password"]),
		BearerToken:   string(s.Data["bearerToken"]),
		SSHIdentity:   s.Data["identity"],
		SSHKnownHosts: s.Data["known_hosts"],
		CA:            s.Data["ca.crt"],
	}
	if len(a.CA) == 0 {
		a.CA = s.Data["caFile"]
	}
	if a.Empty() {
		return Auth{}, fmt.Errorf("secret %q has none of username and password, bearerToken, identity, ca.crt", key)
	}
	return a, nil
}
