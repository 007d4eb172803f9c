package signature_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairway-cd/fairway/internal/signature"
)

// signers is a real gpg, ssh-keygen and git.
type signers struct {
	*testing.T
	dir string
	env []string
}

func newSigners(t *testing.T) *signers {
	t.Helper()
	for _, program := range []string{"gpg", "git", "ssh-keygen"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("the test needs %s", program)
		}
	}
	dir, err := os.MkdirTemp("", "sign") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd := exec.Command("gpgconf", "--kill", "all")
		cmd.Env = append(os.Environ(), "GNUPGHOME="+dir)
		_ = cmd.Run() // it may not run
		os.RemoveAll(dir)
	})
	s := &signers{T: t, dir: dir, env: append(os.Environ(), "GNUPGHOME="+dir, "HOME="+dir, "GIT_CONFIG_NOSYSTEM=1")}
	s.git("init", "-q", "-b", "main", ".")
	s.git("config", "user.name", "Alice")
	s.git("config", "user.email", "alice@example.com")
	return s
}

func (s *signers) run(program string, args ...string) []byte {
	s.Helper()
	cmd := exec.CommandContext(s.Context(), program, args...)
	cmd.Dir, cmd.Env = s.dir, s.env
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		s.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, errs.String())
	}
	return out
}

func (s *signers) git(args ...string) []byte { s.Helper(); return s.run("git", args...) }

// pgpKey makes a key that signs by a subkey, and returns its public part and
// its fingerprint.
func (s *signers) pgpKey(name string) (public []byte, fingerprint string) {
	s.Helper()
	s.run("gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", name+" <"+name+"@example.com>", "ed25519", "cert")
	for line := range strings.SplitSeq(string(s.run("gpg", "--batch", "--with-colons", "--list-keys", name)), "\n") {
		if f := strings.Split(line, ":"); f[0] == "fpr" && fingerprint == "" {
			fingerprint = f[9]
		}
	}
	s.run("gpg", "--batch", "--quiet", "--passphrase", "", "--quick-add-key", fingerprint, "ed25519", "sign")
	return s.run("gpg", "--batch", "--armor", "--export", fingerprint), fingerprint
}

func (s *signers) raw(kind, name string) []byte { return s.git("cat-file", kind, name) }

func TestOpenPGP(t *testing.T) {
	s := newSigners(t)
	alice, fingerprint := s.pgpKey("alice")
	bob, _ := s.pgpKey("bob")
	s.git("commit", "-q", "--allow-empty", "-m", "unsigned")
	unsigned := s.raw("commit", "HEAD")
	s.git("commit", "-q", "--allow-empty", "-S"+fingerprint, "-m", "signed\n\nby alice")
	commit := s.raw("commit", "HEAD")
	s.git("tag", "-u", fingerprint, "-m", "version one", "v1")
	tag := s.raw("tag", "v1")
	s.git("tag", "-a", "-m", "not signed", "v0")

	trusted := &signature.Keys{}
	if err := trusted.Add("both.asc", append(append([]byte{}, bob...), alice...)); err != nil {
		t.Fatal(err)
	}
	for what, check := range map[string]func() (signature.Signer, error){
		"commit": func() (signature.Signer, error) { return trusted.Commit(commit) },
		"tag":    func() (signature.Signer, error) { return trusted.Tag(tag) },
	} {
		by, err := check()
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if by.Primary != fingerprint || by.Key == fingerprint || !by.Is(fingerprint[24:]) || !by.Is("0x"+strings.ToLower(by.Key[24:])) {
			t.Errorf("%s: signed by %+v, want a subkey of %s", what, by, fingerprint)
		}
		if by.Is("") || by.Is(fingerprint[32:]) || by.Is("0123456789ABCDEF") {
			t.Errorf("%s: %+v is taken for somebody else", what, by)
		}
	}
	var none *signature.UnsignedError
	if _, err := trusted.Commit(unsigned); !errors.As(err, &none) {
		t.Errorf("unsigned commit: %v", err)
	}
	if _, err := trusted.Tag(s.raw("tag", "v0")); !errors.As(err, &none) {
		t.Errorf("unsigned tag: %v", err)
	}
	want := strings.TrimSpace(string(s.git("rev-parse", "v1^{commit}")))
	if of, name := signature.TagOf(tag); of != want || name != "v1" {
		t.Errorf("the tag is %q of %q, want v1 of %q", name, of, want)
	}

	onlyBob := &signature.Keys{}
	if err := onlyBob.Add("bob.asc", bob); err != nil {
		t.Fatal(err)
	}
	twice := bytes.Replace(commit, []byte("\ngpgsig "), []byte("\ngpgsig x\ngpgsig "), 1)
	var untrusted *signature.UntrustedError
	for what, raw := range map[string][]byte{
		"another tree":        bytes.Replace(commit, []byte("tree "), []byte("tree 0"), 1),
		"another message":     bytes.Replace(commit, []byte("by alice"), []byte("by mallory"), 1),
		"two signatures":      twice,
		"a damaged one":       bytes.Replace(commit, []byte("-----BEGIN PGP SIGNATURE-----\n \n "), []byte("-----BEGIN PGP SIGNATURE-----\n \n AAAA"), 1),
		"one of another kind": bytes.Replace(commit, []byte("PGP SIGNATURE"), []byte("PKCS7"), -1),
	} {
		if _, err := trusted.Commit(raw); !errors.As(err, &untrusted) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := onlyBob.Commit(commit); !errors.As(err, &untrusted) {
		t.Errorf("a signature of alice counts where only bob is trusted: %v", err)
	}
	// What stands before the end of a tag is signed, as well.
	if _, err := trusted.Tag(bytes.Replace(tag, []byte("version one"), []byte("version two"), 1)); !errors.As(err, &untrusted) {
		t.Errorf("another tag: %v", err)
	}
	if err := new(signature.Keys).Add("x.asc", []byte("no key")); err == nil {
		t.Error("a text is taken for a key")
	}
}

func TestSSH(t *testing.T) {
	s := newSigners(t)
	s.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "alice", "-f", "alice")
	s.run("ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", "bob")
	s.git("config", "gpg.format", "ssh")
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(s.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	alice, both := &signature.Keys{}, &signature.Keys{}
	for keys, names := range map[*signature.Keys][]string{alice: {"alice.pub"}, both: {"bob.pub", "alice.pub"}} {
		for _, name := range names {
			if err := keys.Add(name+".sshpub", read(name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, name := range []string{"alice", "bob"} {
		s.git("config", "user.signingkey", filepath.Join(s.dir, name))
		s.git("commit", "-q", "--allow-empty", "-S", "-m", "signed")
		commit := s.raw("commit", "HEAD")
		by, err := both.Commit(commit)
		if err != nil || !strings.HasPrefix(by.String(), "SHA256:") {
			t.Errorf("%s: %v, %v", name, by, err)
		}
		var untrusted *signature.UntrustedError
		if _, err := alice.Commit(commit); name == "bob" && !errors.As(err, &untrusted) {
			t.Errorf("bob counts where only alice is trusted: %v", err)
		}
		if _, err := both.Commit(bytes.Replace(commit, []byte("Alice"), []byte("Mallory"), 1)); !errors.As(err, &untrusted) {
			t.Errorf("%s: another author: %v", name, err)
		}
	}
	s.git("tag", "-s", "-m", "version one", "v1")
	if _, err := both.Tag(s.raw("tag", "v1")); err != nil {
		t.Error(err)
	}
}

func FuzzCommit(f *testing.F) {
	f.Add([]byte("tree 0\nauthor A <a> 0 +0000\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----\n\nmessage"))
	f.Add([]byte("tree 0\ngpgsig -----BEGIN SSH SIGNATURE-----\n U1NIU0lHAAAAAQ==\n -----END SSH SIGNATURE-----\n\nmessage"))
	f.Add([]byte("object 0\ntype commit\n\nmessage\n-----BEGIN SSH SIGNATURE-----\nU1NIU0lHAAAAAQ==\n-----END SSH SIGNATURE-----\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		keys := &signature.Keys{}
		if _, err := keys.Commit(raw); err == nil {
			t.Error("nobody is trusted, and yet it counts")
		}
		if _, err := keys.Tag(raw); err == nil {
			t.Error("nobody is trusted, and yet it counts")
		}
	})
}
