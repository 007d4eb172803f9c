package inside

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"text/template"
)

// ruleset is the node's own table. kube-proxy has another one, whose address
// translation comes first: its chains are at -100 and 100. What belongs to the cluster, the
// link and the machine is left alone; TCP to anywhere else is redirected to the
// egress relay, and what else leaves does so by the node's address, so that
// answers of the host find back.
var ruleset = template.Must(template.New("nft").Parse(`
table ip fairway {
	set near {
		type ipv4_addr
		flags interval
		elements = { {{.ClusterCIDR}}, {{.ServiceCIDR}}, {{.Link}}, 127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/3 }
	}
	chain prerouting {
		type nat hook prerouting priority -90;
		meta l4proto tcp ip daddr != @near redirect to :{{.EgressPort}}
	}
	chain output {
		type nat hook output priority -90;
		meta l4proto tcp ip daddr != @near redirect to :{{.EgressPort}}
	}
	chain postrouting {
		type nat hook postrouting priority 110;
		oifname "eth0" ip saddr {{.ClusterCIDR}} masquerade
	}
}
`))

// filter sets the node's packet filter. It acts on this network namespace only.
func filter(ctx context.Context, c Config) error {
	var rules strings.Builder
	if err := ruleset.Execute(&rules, c); err != nil {
		return fmt.Errorf("writing the packet filter's rules: %w", err)
	}
	nft := exec.CommandContext(ctx, "nft", "-f", "-")
	nft.Stdin = strings.NewReader(rules.String())
	if out, err := nft.CombinedOutput(); err != nil {
		return fmt.Errorf("setting the packet filter: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// forward lets the node route between its pods and the host. These settings
// are the network namespace's own.
func forward() error {
	for file, value := range map[string]string{
		"/proc/sys/net/ipv4/ip_forward":             "1",
		"/proc/sys/net/ipv4/conf/all/rp_filter":     "0",
		"/proc/sys/net/ipv4/conf/default/rp_filter": "0",
	} {
		if err := os.WriteFile(file, []byte(value), 0o644); err != nil {
			return fmt.Errorf("setting the node's network: %w", err)
		}
	}
	return nil
}
