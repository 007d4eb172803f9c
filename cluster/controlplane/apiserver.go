package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/spf13/pflag"
	cliflag "k8s.io/component-base/cli/flag"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	apioptions "k8s.io/kubernetes/cmd/kube-apiserver/app/options"
)

// serviceAccountIssuer is who signs the tokens of service accounts, and their
// audience where a request names none.
const serviceAccountIssuer = "https://kubernetes.default.svc.cluster.local"

// unreachableAddress stands where the API server wants to advertise an address
// and there is none that a pod could use. It is of the block for documentation
// (RFC 5737), and no endpoint is written for it.
const unreachableAddress = "192.0.2.1"

// newAPIServer prepares the API server on a socket that is open already. Call
// it before the other parts are prepared: it settles the feature gates and the
// log, which they share.
func newAPIServer(ctx context.Context, o *Options, c *credentials, listener net.Listener) (func(context.Context) error, error) {
	server := apioptions.NewServerRunOptions()
	if err := parseFlags(server.Flags(), apiServerFlags(o, c)); err != nil {
		return nil, fmt.Errorf("API server: %w", err)
	}
	if err := server.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return nil, fmt.Errorf("API server: setting feature gates: %w", err)
	}
	if err := applyLogging(o.Verbosity); err != nil {
		return nil, err
	}
	server.SecureServing.Listener = listener
	completed, err := server.Complete(ctx)
	if err != nil {
		return nil, fmt.Errorf("API server: completing options: %w", err)
	}
	if errs := completed.Validate(); len(errs) > 0 {
		return nil, fmt.Errorf("API server: %w", errors.Join(errs...))
	}
	sockets, err := parseServiceSockets(o.ServiceSockets)
	if err != nil {
		return nil, fmt.Errorf("API server: %w", err)
	}
	return func(ctx context.Context) error { return runAPIServer(ctx, completed, sockets) }, nil
}

// runAPIServer does what upstream's Run does (cmd/kube-apiserver/app), and
// puts the Services that are served from beside the cluster in front.
func runAPIServer(ctx context.Context, options apioptions.CompletedOptions, sockets serviceSockets) error {
	config, err := apiserver.NewConfig(options)
	if err != nil {
		return err
	}
	sockets.serve(config)
	completed, err := config.Complete()
	if err != nil {
		return err
	}
	server, err := apiserver.CreateServerChain(completed)
	if err != nil {
		return err
	}
	prepared, err := server.PrepareRun()
	if err != nil {
		return err
	}
	return prepared.Run(ctx)
}

func apiServerFlags(o *Options, c *credentials) []string {
	serving := c.serving.File(c.dir())
	kubelet := kubeletClientLeaf.File(c.dir())
	proxy := frontProxyLeaf.File(c.dir())
	advertise, reconciler := o.AdvertiseAddress, "lease"
	if advertise == "" {
		advertise, reconciler = unreachableAddress, "none"
	}
	return []string{
		"--etcd-servers=unix:" + etcdClientSocket,
		"--bind-address=" + o.Address,
		"--advertise-address=" + advertise,
		"--endpoint-reconciler-type=" + reconciler,
		"--service-cluster-ip-range=" + o.ServiceCIDR,
		"--allow-privileged=true",

		"--tls-cert-file=" + serving,
		"--tls-private-key-file=" + serving,
		"--client-ca-file=" + c.ca.CertFile(),
		"--kubelet-client-certificate=" + kubelet,
		"--kubelet-client-key=" + kubelet,
		"--kubelet-certificate-authority=" + c.ca.CertFile(),
		// A node's name need not resolve on this machine; its address does.
		"--kubelet-preferred-address-types=InternalIP,Hostname",
		"--proxy-client-cert-file=" + proxy,
		"--proxy-client-key-file=" + proxy,
		"--requestheader-client-ca-file=" + c.frontProxy.CertFile(),
		"--requestheader-allowed-names=" + frontProxyLeaf.CommonName,
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",

		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--service-account-issuer=" + serviceAccountIssuer,
		"--service-account-key-file=" + c.serviceAccountKey(),
		"--service-account-signing-key-file=" + c.serviceAccountKey(),
		// The longest life that a TokenRequest gets; more is cut to this.
		"--service-account-max-token-expiration=8760h",

		"--profiling=false",
		"--shutdown-delay-duration=0s",
	}
}

// parseFlags sets a component's options from command line flags, which is the
// one way to set them that upstream keeps stable.
func parseFlags(sets cliflag.NamedFlagSets, args []string) error {
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	for _, set := range sets.FlagSets {
		fs.AddFlagSet(set)
	}
	return fs.Parse(args)
}
