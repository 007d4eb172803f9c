package git

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"testing"

	"golang.org/x/crypto/ssh"
)

// sshForge serves the repository at dir over ssh to who has the key, as a
// forge does: git runs, and nothing else.
func sshForge(t *testing.T, dir string) (url string, knownHosts, key []byte) {
	t.Helper()
	newKey := func() (ed25519.PrivateKey, ssh.Signer) {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		signer, err := ssh.NewSignerFromKey(private)
		if err != nil {
			t.Fatal(err)
		}
		return private, signer
	}
	_, host := newKey()
	private, user := newKey()
	config := &ssh.ServerConfig{PublicKeyCallback: func(c ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
		if c.User() == "git" && string(k.Marshal()) == string(user.PublicKey().Marshal()) {
			return nil, nil
		}
		return nil, errors.New("no")
	}}
	config.AddHostKey(host)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serveSSH(conn, config, dir)
		}
	}()
	block, err := ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte("open sesame"))
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().(*net.TCPAddr)
	line := fmt.Sprintf("[127.0.0.1]:%d %s", addr.Port, ssh.MarshalAuthorizedKey(host.PublicKey()))
	return fmt.Sprintf("ssh://git@127.0.0.1:%d/web", addr.Port), []byte(line), pem.EncodeToMemory(block)
}

func serveSSH(conn net.Conn, config *ssh.ServerConfig, dir string) {
	defer conn.Close()
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for c := range channels {
		channel, requests, err := c.Accept()
		if err != nil {
			return
		}
		go func() {
			defer channel.Close()
			for r := range requests {
				if r.Type != "exec" {
					_ = r.Reply(r.Type == "env", nil)
					continue
				}
				_ = r.Reply(true, nil)
				cmd := exec.Command("git", "upload-pack", dir)
				cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
				in, err := cmd.StdinPipe()
				if err != nil || cmd.Start() != nil {
					return
				}
				go func() {
					defer in.Close()
					_, _ = io.Copy(in, channel)
				}()
				_ = cmd.Wait()
				_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(cmd.ProcessState.ExitCode())}))
				return
			}
		}()
	}
}

func TestMirrorOverSSH(t *testing.T) {
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Fatal("ssh is not installed: apt-get install openssh-client")
	}
	remote, _, hash := forge(t)
	url, knownHosts, key := sshForge(t, remote.repositoryDir(webName))
	w := newWorld(t)
	good := Auth{SSHKey: key, SSHPassphrase: "open sesame", KnownHosts: knownHosts}
	if s, err := w.Resolve(t.Context(), url, Ref{}, good); err != nil || s.Revision.Commit != hash {
		t.Errorf("%v, %v", s.Revision, err)
	}
	var auth *AuthError
	if _, err := w.Fetch(t.Context(), url, Auth{KnownHosts: knownHosts}); !errors.As(err, &auth) {
		t.Errorf("no key: %v", err)
	}
	if _, err := w.Fetch(t.Context(), url, Auth{SSHKey: key, SSHPassphrase: "wrong", KnownHosts: knownHosts}); !errors.As(err, &auth) {
		t.Errorf("a wrong passphrase: %v", err)
	}
	if _, err := w.Fetch(t.Context(), url, Auth{SSHKey: key, SSHPassphrase: "open sesame"}); !errors.As(err, new(*UnreachableError)) {
		t.Errorf("an unknown host key: %v", err)
	}
}
