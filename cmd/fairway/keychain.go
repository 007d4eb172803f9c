package main

import (
	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/fairway-cd/fairway/internal/app"
)

// operatorKeychain has the credentials of docker's configuration, and for the
// registry of an instance whose directory we may read, without a login, the
// operator's.
func operatorKeychain(inst *app.Instance) authn.Keychain {
	return authn.NewMultiKeychain(authn.DefaultKeychain, instanceKeychain{inst})
}

type instanceKeychain struct{ inst *app.Instance }

// Resolve implements authn.Keychain.
func (k instanceKeychain) Resolve(target authn.Resource) (authn.Authenticator, error) {
	if target.RegistryStr() != k.inst.Registry() {
		return authn.Anonymous, nil
	}
	token, err := k.inst.Token()
	if err != nil {
		return authn.Anonymous, nil // not up: the request will say so
	}
	return &authn.Basic{Username: "fairway", Password: token}, nil
}
