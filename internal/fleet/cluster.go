package fleet

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"k8s.io/client-go/rest"

	"github.com/fairway-cd/fairway/internal/core/loopback"
)

// Cluster is a cluster and what lets us in. It is never changed. Printing it
// shows no credential.
type Cluster struct {
	// Name and Server are for people.
	Name, Server string
	// Namespaces are the only ones that the credential is for; none is all.
	// ClusterScoped says whether it is for objects of the whole cluster, too.
	Namespaces    []string
	ClusterScoped bool

	config *rest.Config
	digest string
}

func (c *Cluster) String() string { return fmt.Sprintf("cluster %q (%s)", c.Name, c.Server) }

// GoString keeps %#v from showing what lets us in.
func (c *Cluster) GoString() string { return c.String() }

// Digest identifies the address and the credential.
func (c *Cluster) Digest() string { return c.digest }

// FieldError says what is wrong with, or refused of, the description of a
// cluster. It has nothing of the credential in it.
type FieldError struct{ Field, Problem string }

func (e *FieldError) Error() string { return e.Field + ": " + e.Problem }

// secretConfig is "config" of a cluster's Secret, as Argo CD documents it.
type secretConfig struct {
	Username           string           `json:"username,omitempty"`
	Password           string           `json:"password,omitempty"`
	BearerToken        string           `json:"bearerToken,omitempty"`
	TLSClientConfig    tlsConfig        `json:"tlsClientConfig"`
	AWSAuthConfig      *json.RawMessage `json:"awsAuthConfig,omitempty"`
	ExecProviderConfig *json.RawMessage `json:"execProviderConfig,omitempty"`
	DisableCompression bool             `json:"disableCompression,omitempty"`
	ProxyURL           string           `json:"proxyUrl,omitempty"`
}

type tlsConfig struct {
	Insecure   bool   `json:"insecure"`
	ServerName string `json:"serverName,omitempty"`
	CertData   []byte `json:"certData,omitempty"`
	KeyData    []byte `json:"keyData,omitempty"`
	CAData     []byte `json:"caData,omitempty"`
}

// maxDescription bounds a description of a cluster.
const maxDescription = 1 << 20

// FromSecret reads the data of an Argo CD Secret of a cluster. Errors are
// *FieldError.
func FromSecret(data map[string][]byte) (*Cluster, error) {
	c := &Cluster{
		Name: strings.TrimSpace(string(data["name"])), Server: NormalServer(string(data["server"])),
		Namespaces: listOf(string(data["namespaces"])),
	}
	if c.Name == "" {
		c.Name = c.Server
	}
	c.ClusterScoped = len(c.Namespaces) == 0
	if all := strings.TrimSpace(string(data["clusterResources"])); all != "" && !c.ClusterScoped {
		on, err := strconv.ParseBool(all)
		if err != nil {
			return nil, &FieldError{"clusterResources", `want "true" or "false"`}
		}
		c.ClusterScoped = on
	}
	config, err := readSecretConfig(data["config"])
	if err != nil {
		return nil, err
	}
	if c.config, err = config.rest(c.Server); err != nil {
		return nil, err
	}
	return c, c.seal()
}

// NormalServer is an address as they are compared.
func NormalServer(server string) string { return strings.TrimRight(strings.TrimSpace(server), "/") }

func listOf(text string) []string {
	var list []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func readSecretConfig(text []byte) (*secretConfig, error) {
	c := &secretConfig{}
	if len(text) > maxDescription {
		return nil, &FieldError{"config", "is too long"}
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return c, nil
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(c); err != nil {
		return nil, &FieldError{"config", jsonProblem(err)}
	}
	switch {
	case c.AWSAuthConfig != nil:
		return nil, &FieldError{"config.awsAuthConfig", "is not supported: give a bearerToken or a client certificate"}
	case c.ExecProviderConfig != nil:
		return nil, &FieldError{"config.execProviderConfig", "is not supported, it would run a program in the server: give a bearerToken or a client certificate"}
	}
	return c, nil
}

// jsonProblem is the error without any value.
func jsonProblem(err error) string {
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		return fmt.Sprintf("%s is a %s", kind.Field, kind.Value)
	}
	// encoding/json has no type for it; the text is a field's name alone.
	if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return "field " + field + " is not known"
	}
	return "is not JSON as it is documented"
}

func (c *secretConfig) rest(server string) (*rest.Config, error) {
	cfg := &rest.Config{
		Host: server, Username: c.Username, Password: c.Password, BearerToken: c.BearerToken,
		DisableCompression: c.DisableCompression,
		TLSClientConfig: rest.TLSClientConfig{
			Insecure: c.TLSClientConfig.Insecure, ServerName: c.TLSClientConfig.ServerName,
			CertData: c.TLSClientConfig.CertData, KeyData: c.TLSClientConfig.KeyData, CAData: c.TLSClientConfig.CAData,
		},
	}
	if c.ProxyURL != "" {
		proxy, err := url.Parse(c.ProxyURL)
		if err != nil || proxy.Host == "" {
			return nil, &FieldError{"config.proxyUrl", "is no address"}
		}
		cfg.Proxy = http.ProxyURL(proxy)
	}
	return cfg, nil
}

// seal checks the whole, and gives it its digest.
func (c *Cluster) seal() error {
	cfg := c.config
	u, err := url.Parse(c.Server)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return &FieldError{"server", "want https://HOST[:PORT]"}
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return &FieldError{"server", "is more than https://HOST[:PORT][/PATH]"}
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return &FieldError{"server", "a credential is not sent without TLS: want https://"}
	case cfg.Insecure && len(cfg.CAData) > 0:
		return &FieldError{"tlsClientConfig", "insecure and caData contradict each other"}
	case (len(cfg.CertData) > 0) != (len(cfg.KeyData) > 0):
		return &FieldError{"tlsClientConfig", "certData and keyData belong together"}
	case cfg.BearerToken != "" && cfg.Username != "":
		return &FieldError{"config", "bearerToken and username contradict each other"}
	}
	if _, err := rest.TLSConfigFor(cfg); err != nil {
		return &FieldError{"config", "certificates and keys do not make a TLS connection"}
	}
	c.digest = digest(c)
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return loopback.Named(host) || ip != nil && ip.IsLoopback()
}

func digest(c *Cluster) string {
	cfg, proxy := c.config, ""
	if cfg.Proxy != nil {
		if u, err := cfg.Proxy(&http.Request{URL: &url.URL{}}); err == nil && u != nil {
			proxy = u.String()
		}
	}
	h := sha256.New()
	// Plain data always encode.
	_ = json.NewEncoder(h).Encode([]any{
		c.Server, c.Namespaces, c.ClusterScoped, cfg.Username, cfg.Password, cfg.BearerToken, cfg.DisableCompression, proxy,
		cfg.Insecure, cfg.ServerName, cfg.CertData, cfg.KeyData, cfg.CAData, cfg.Impersonate,
	})
	return hex.EncodeToString(h.Sum(nil))
}
