package keyring

import (
	"fmt"
	"os"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"
)

// UseInRegistryClients gives the token to all clients that read Docker's
// configuration (docker, podman, skopeo, crane, ko, and ours), into the
// credential store that is configured there, or else the file itself, which
// then becomes readable by its owner alone.
func UseInRegistryClients(s Server, token string) error {
	file, err := dockerConfig()
	if err != nil {
		return err
	}
	if info, err := os.Stat(file.Filename); err == nil && info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(file.Filename, 0o600); err != nil {
			return fmt.Errorf("making Docker's configuration private: %w", err)
		}
	}
	for _, alias := range s.aliases() {
		err := file.GetCredentialsStore(alias.host).Store(types.AuthConfig{
			ServerAddress: alias.host, Username: UserName, Password: token,
		})
		if err != nil {
			return fmt.Errorf("storing the credential for registry %s: %w", alias.host, err)
		}
	}
	return nil
}

// LeaveRegistryClients takes back what UseInRegistryClients did.
func LeaveRegistryClients(s Server) error {
	file, err := dockerConfig()
	if err != nil {
		return err
	}
	for _, alias := range s.aliases() {
		if err := file.GetCredentialsStore(alias.host).Erase(alias.host); err != nil {
			return fmt.Errorf("erasing the credential for registry %s: %w", alias.host, err)
		}
	}
	return nil
}

func dockerConfig() (*configfile.ConfigFile, error) {
	file, err := config.Load(config.Dir())
	if err != nil {
		return nil, fmt.Errorf("reading Docker's configuration: %w", err)
	}
	return file, nil
}
