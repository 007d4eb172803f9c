package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"sort"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// The states of an instance.
const (
	StateRunning  = "running"
	StateStarting = "starting"
	StateStopped  = "stopped"
)

// Status is what an instance says of itself.
type Status struct {
	State   string `json:"state"`
	Version string `json:"version"`
	UIURL   string `json:"uiURL,omitempty"`
	APIURL  string `json:"apiURL,omitempty"`
	// GitURL holds the operator's credential; append /NAME.git.
	GitURL string `json:"gitURL,omitempty"`
	// Registry is HOST:PORT, the first part of an image's name.
	Registry   string       `json:"registry,omitempty"`
	Kubeconfig string       `json:"kubeconfig,omitempty"`
	PID        int          `json:"pid,omitempty"`
	ClusterPID int          `json:"clusterPID,omitempty"`
	NodePID    int          `json:"nodePID,omitempty"`
	Nodes      []NodeStatus `json:"nodes"`
	// Paused says that nothing is delivered until 'fairway resume'.
	Paused bool `json:"paused,omitempty"`
	// Degraded says what does not work, and why.
	Degraded []string `json:"degraded,omitempty"`
	// CA is the file of the certificate authority for --listen.
	CA   string `json:"ca,omitempty"`
	Data string `json:"data"`
}

// NodeStatus is one node of the cluster.
type NodeStatus struct {
	Name string `json:"name"`
	// Kind is real or kwok.
	Kind string `json:"kind"`
	// Condition is Ready, NotReady or Unknown.
	Condition string `json:"condition"`
}

// PublicGitURL is GitURL without the credential.
func (s Status) PublicGitURL() string {
	u, err := url.Parse(s.GitURL)
	if err != nil {
		return ""
	}
	u.User = nil
	return u.String()
}

// Doors are what every user of a running instance may know.
type Doors struct {
	State    string `json:"state"`
	Version  string `json:"version"`
	UIURL    string `json:"uiURL"`
	APIURL   string `json:"apiURL"`
	GitURL   string `json:"gitURL"`
	Registry string `json:"registry"`
}

// doors are those of this instance, which runs. They are said without asking
// anybody.
func (i *Instance) doors() Doors {
	return Doors{StateRunning, Version, i.URL() + "/", i.URL() + "/api", i.gitURL(""), i.Registry()}
}

// URL is the address of everything, without a path.
func (i *Instance) URL() string {
	return "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(i.Config.Port))
}

// Registry is the name under which images are pushed and pulled.
func (i *Instance) Registry() string { return "localhost:" + strconv.Itoa(i.Config.Port) }

// Status asks what there is to know. That the instance is stopped is no error.
func (i *Instance) Status(ctx context.Context) (Status, error) {
	s := Status{State: StateStopped, Version: Version, Data: i.dir, Nodes: []NodeStatus{}}
	var half *HalfRestoredError
	if errors.As(i.whole(), &half) {
		s.State = StateHalf
		return s, nil
	}
	if !i.Running() {
		s.Paused = i.Config.Paused
		return s, nil
	}
	state, err := i.readState()
	if errors.Is(err, fs.ErrNotExist) || err == nil && state.Started == "" {
		s.State, s.PID = StateStarting, state.PID
		return s, nil
	}
	if err != nil {
		return s, err
	}
	s.State, s.PID, s.ClusterPID, s.NodePID = StateRunning, state.PID, state.ClusterPID, state.NodePID
	s.Degraded, s.Paused = state.Degraded, state.Paused
	s.UIURL, s.APIURL = i.URL()+"/", i.URL()+"/api"
	s.GitURL = i.gitURL(state.Token)
	s.Registry, s.Kubeconfig = i.Registry(), i.KubeconfigPath()
	if _, err := os.Stat(i.CAPath()); err == nil {
		s.CA = i.CAPath()
	}
	s.Nodes, err = i.nodes(ctx)
	if err != nil {
		s.Degraded = append(s.Degraded, "the Kubernetes API does not answer: "+err.Error())
	}
	return s, nil
}

func (i *Instance) gitURL(token string) string {
	u := url.URL{Scheme: "http", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(i.Config.Port)), Path: "/git"}
	if token != "" {
		u.User = url.UserPassword("fairway", token)
	}
	return u.String()
}

// nodes lists the cluster's nodes, with a short patience.
func (i *Instance) nodes(ctx context.Context) ([]NodeStatus, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", i.KubeconfigPath())
	if err != nil {
		return []NodeStatus{}, err
	}
	cfg.Timeout = 3 * time.Second
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return []NodeStatus{}, err
	}
	list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{Limit: 500})
	if err != nil {
		return []NodeStatus{}, err
	}
	nodes := make([]NodeStatus, 0, len(list.Items))
	for _, n := range list.Items {
		nodes = append(nodes, NodeStatus{Name: n.Name, Kind: nodeKind(n), Condition: nodeCondition(n)})
	}
	sort.Slice(nodes, func(a, b int) bool { return nodes[a].Name < nodes[b].Name })
	return nodes, nil
}

func nodeKind(n corev1.Node) string {
	if n.Labels["type"] == "kwok" || n.Annotations["kwok.x-k8s.io/node"] == "fake" {
		return "kwok"
	}
	return "real"
}

func nodeCondition(n corev1.Node) string {
	for _, c := range n.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		switch c.Status {
		case corev1.ConditionTrue:
			return "Ready"
		case corev1.ConditionFalse:
			return "NotReady"
		}
	}
	return "Unknown"
}

// contextName is the name of our context in other people's kubeconfigs.
const contextName = "fairway"

// AddContext adds the instance to the user's own kubeconfig, as context
// fairway, and makes it the current one only where there is none.
func (i *Instance) AddContext() error {
	ours, err := clientcmd.LoadFromFile(i.KubeconfigPath())
	if err != nil {
		return fmt.Errorf("reading the instance's kubeconfig: %w", err)
	}
	if err := clientcmd.ResolveLocalPaths(ours); err != nil {
		return fmt.Errorf("reading the instance's kubeconfig: %w", err)
	}
	current := ours.Contexts[ours.CurrentContext]
	if current == nil || ours.Clusters[current.Cluster] == nil || ours.AuthInfos[current.AuthInfo] == nil {
		return fmt.Errorf("%s has no current context", i.KubeconfigPath())
	}
	paths := clientcmd.NewDefaultPathOptions()
	theirs, err := paths.GetStartingConfig()
	if err != nil {
		return fmt.Errorf("reading your kubeconfig: %w", err)
	}
	cluster, user := ours.Clusters[current.Cluster], ours.AuthInfos[current.AuthInfo]
	// What has an origin would be written back there.
	cluster.LocationOfOrigin, user.LocationOfOrigin = "", ""
	theirs.Clusters[contextName], theirs.AuthInfos[contextName] = cluster, user
	theirs.Contexts[contextName] = &clientcmdapi.Context{Cluster: contextName, AuthInfo: contextName}
	if theirs.CurrentContext == "" {
		theirs.CurrentContext = contextName
	}
	if err := clientcmd.ModifyConfig(paths, *theirs, false); err != nil {
		return fmt.Errorf("writing your kubeconfig: %w", err)
	}
	return nil
}
