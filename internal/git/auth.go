package git

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Auth is what a remote repository is asked with. The zero value asks as
// nobody. It does not print what it holds.
type Auth struct {
	// Username and Password for http basic authentication.
	Username, Password string
	// Token is a bearer token; it takes the place of the two above.
	Token string
	// SSHKey is a private key in PEM, with its passphrase where it has one.
	SSHKey        []byte
	SSHPassphrase string
	// KnownHosts are the host keys to trust, in ssh's format. Without them
	// nothing is reached over ssh, unless Insecure.
	KnownHosts []byte
	// CA are the certificates to trust in PEM, instead of the system's.
	CA []byte
	// ClientCert and ClientKey are for TLS, in PEM.
	ClientCert, ClientKey []byte
	// Insecure trusts any certificate and host key.
	Insecure bool
}

// String says no more than whether there is something.
func (a Auth) String() string {
	if !a.given() {
		return "no credentials"
	}
	return "credentials"
}

// GoString keeps %#v from printing secrets.
func (a Auth) GoString() string { return a.String() }

// LogValue keeps logs from printing secrets.
func (a Auth) LogValue() slog.Value { return slog.StringValue(a.String()) }

// MarshalJSON keeps them out of JSON as well.
func (a Auth) MarshalJSON() ([]byte, error) { return json.Marshal(a.String()) }

func (a Auth) given() bool {
	return a.Username != "" || a.Password != "" || a.Token != "" || len(a.SSHKey) > 0 || len(a.ClientKey) > 0
}

// withURL takes the credentials in a URL where there are no others.
func (a Auth) withURL(u remote) Auth {
	if u.scheme != "ssh" && a.Username == "" && a.Password == "" && a.Token == "" {
		a.Username, a.Password = u.user, u.password
	}
	return a
}

// check refuses what could break out of the line or variable that carries it.
func (a Auth) check() error {
	for _, s := range []string{a.Username, a.Password, a.Token} {
		if strings.ContainsAny(s, "\n\r\x00") {
			return errors.New("the credentials contain a line break")
		}
	}
	return nil
}

// fingerprint tells credentials apart without keeping them.
func (a Auth) fingerprint(key []byte) string {
	h := hmac.New(sha256.New, key)
	for _, s := range []string{a.Username, a.Password, a.Token, string(a.SSHKey), string(a.ClientCert), string(a.ClientKey)} {
		fmt.Fprintf(h, "%d:%s,", len(s), s)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// loadKey reads the key of fingerprints, and makes one the first time.
func loadKey(path string) ([]byte, error) {
	key, err := os.ReadFile(path)
	if err == nil && len(key) == sha256.Size {
		return key, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the key: %w", err)
	}
	key = make([]byte, sha256.Size)
	_, _ = rand.Read(key) // does not fail: crypto/rand
	return key, writeDurably(path, key, 0o600)
}

// credentialHelper prints what is in the environment; git runs it with sh.
// It is asked for nothing but the repository's own host.
const credentialHelper = `!f() { test "$1" = get && printf 'username=%s\npassword=%s\n' "$FAIRWAY_GIT_USERNAME" "$FAIRWAY_GIT_PASSWORD"; }; f`

// sshCommand is run by git with sh: the paths come from the environment.
const sshCommand = `ssh -F none -o BatchMode=yes -o IdentityAgent=none -o IdentitiesOnly=yes -o ConnectTimeout=20 ` +
	`-o "IdentityFile=\"$FAIRWAY_SSH_KEY\"" -o "UserKnownHostsFile=\"$FAIRWAY_SSH_KNOWN_HOSTS\"" ` +
	`-o GlobalKnownHostsFile=/dev/null -o StrictHostKeyChecking=$FAIRWAY_SSH_STRICT`

// environment is what git needs to ask a remote with a: nothing secret becomes
// an argument; keys become files that only this user can read, below temp,
// until done is called.
func (a Auth) environment(u remote, temp string) (env []string, done func(), err error) {
	done = func() {}
	if err := a.check(); err != nil {
		return nil, done, &AuthError{URL: u.String(), Given: true, Reason: err.Error()}
	}
	dir, err := os.MkdirTemp(temp, "auth-*") // of mode 0700
	if err != nil {
		return nil, done, fmt.Errorf("preparing credentials: %w", err)
	}
	done = func() { os.RemoveAll(dir) }
	defer func() {
		if err != nil {
			done()
		}
	}()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if werr := os.WriteFile(path, content, 0o600); werr != nil && err == nil {
			err = fmt.Errorf("preparing credentials: %w", werr)
		}
		return path
	}
	env = append(proxyEnv(), "GIT_ALLOW_PROTOCOL=https:http:ssh")
	if u.scheme != "ssh" {
		env = append(env, a.httpEnvironment(u, file)...)
		return env, done, err
	}
	key, kerr := a.plainKey()
	if kerr != nil {
		err = &AuthError{URL: u.String(), Given: true, Reason: kerr.Error()}
		return nil, done, err
	}
	strict := "yes"
	if a.Insecure {
		strict = "no"
	}
	env = append(env, "GIT_SSH_VARIANT=ssh", "GIT_SSH_COMMAND="+sshCommand, "FAIRWAY_SSH_STRICT="+strict,
		"FAIRWAY_SSH_KEY="+file("key", key), "FAIRWAY_SSH_KNOWN_HOSTS="+file("known_hosts", a.KnownHosts))
	return env, done, err
}

// httpEnvironment is configuration for http by way of the environment; file
// stores what git wants as one.
func (a Auth) httpEnvironment(u remote, file func(name string, content []byte) string) []string {
	site := u.scheme + "://" + u.host
	settings := [][2]string{
		{"http.lowSpeedLimit", "100"}, {"http.lowSpeedTime", "60"},
		{"credential.helper", ""},
	}
	set := func(key, value string) { settings = append(settings, [2]string{key, value}) }
	var env []string
	switch {
	case a.Token != "":
		set("http."+site+".extraHeader", "Authorization: Bearer "+a.Token)
		set("http.followRedirects", "false") // the header would follow
	case a.Username != "" || a.Password != "":
		set("credential."+site+".helper", credentialHelper)
		env = append(env, "FAIRWAY_GIT_USERNAME="+a.username(), "FAIRWAY_GIT_PASSWORD="+a.Password)
	}
	if len(a.CA) > 0 {
		set("http.sslCAInfo", file("ca.pem", a.CA))
	}
	if len(a.ClientCert) > 0 {
		set("http.sslCert", file("client.pem", a.ClientCert))
		set("http.sslKey", file("client-key.pem", a.ClientKey))
	}
	if a.Insecure {
		set("http.sslVerify", "false")
	}
	env = append(env, fmt.Sprintf("GIT_CONFIG_COUNT=%d", len(settings)))
	for i, s := range settings {
		env = append(env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, s[0]), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, s[1]))
	}
	return env
}

// username is never empty: forges take any with a token as password, and git
// would ask for one.
func (a Auth) username() string {
	if a.Username == "" {
		return "git"
	}
	return a.Username
}

// plainKey is the ssh key without its passphrase.
func (a Auth) plainKey() ([]byte, error) {
	if a.SSHPassphrase == "" {
		return a.SSHKey, nil
	}
	key, err := ssh.ParseRawPrivateKeyWithPassphrase(a.SSHKey, []byte(a.SSHPassphrase))
	if err != nil {
		return nil, errors.New("the ssh key cannot be read with its passphrase")
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return nil, errors.New("the ssh key is of an unknown type")
	}
	return pem.EncodeToMemory(block), nil
}

// proxyEnv passes the machine's proxy settings on: remotes are asked the way
// that the machine asks.
func proxyEnv() []string {
	var env []string
	for _, name := range []string{"http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// redact takes the secrets out of what another program said.
func (a Auth) redact(s string) string {
	for _, secret := range []string{a.Password, a.Token, a.SSHPassphrase} {
		if secret != "" {
			s = strings.ReplaceAll(s, secret, "***")
		}
	}
	return s
}
