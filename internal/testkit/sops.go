package testkit

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
)

// Oracle returns the path of a program that hack/oracle.sh has built to compare
// ours with.
func Oracle(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("FAIRWAY_ORACLE")
	if dir == "" {
		root, err := ProjectRoot()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(root, "bin", "oracle")
	}
	p, err := filepath.Abs(filepath.Join(dir, name))
	if err == nil {
		_, err = os.Stat(p)
	}
	if err != nil {
		t.Fatalf("%s is not there (%v): run hack/oracle.sh, or set FAIRWAY_ORACLE to its directory", name, err)
	}
	return p
}

// Sops is the real sops, with a home of its own.
type Sops struct {
	path, Home string
	Env        []string
}

// NewSops finds sops among the oracles.
func NewSops(t testing.TB) *Sops {
	t.Helper()
	home := t.TempDir()
	return &Sops{path: Oracle(t, "sops"), Home: home, Env: []string{"HOME=" + home, "GNUPGHOME=" + home, "PATH=" + home}}
}

// Run gives sops input and arguments, and returns what it prints.
func (s *Sops) Run(t testing.TB, input []byte, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(s.path, append([]string{"--disable-version-check"}, args...)...)
	cmd.Env, cmd.Stdin = s.Env, bytes.NewReader(input)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("sops %s: %v: %s", strings.Join(args, " "), err, errs.String())
	}
	return out.Bytes()
}

// Encrypt encrypts text in a format ("yaml", "json", "dotenv", "ini", "binary")
// with further arguments ("--age", RECIPIENT).
func (s *Sops) Encrypt(t testing.TB, format, text string, args ...string) string {
	t.Helper()
	args = append([]string{"encrypt", "--input-type", format, "--output-type", format, "--filename-override", "x"}, args...)
	return string(s.Run(t, []byte(text), args...))
}

// EncryptBy encrypts by one creation rule of .sops.yaml.
func (s *Sops) EncryptBy(t testing.TB, format, text, rule string) string {
	t.Helper()
	config := filepath.Join(t.TempDir(), ".sops.yaml")
	if err := os.WriteFile(config, []byte("creation_rules:\n- "+rule+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"--config", config, "encrypt", "--input-type", format, "--output-type", format, "--filename-override", "x"}
	return string(s.Run(t, []byte(text), args...))
}

// Decrypt is what `sops decrypt` prints of the file.
func (s *Sops) Decrypt(t testing.TB, format, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return string(s.Run(t, nil, "decrypt", "--input-type", format, "--output-type", format, file))
}

// AgeKey makes a key that sops has too: the text of a key file, and the
// recipient to encrypt to.
func (s *Sops) AgeKey(t testing.TB) (file, recipient string) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(errors.New("make an age key"))
	}
	s.Env = append(s.Env, "SOPS_AGE_KEY="+id.String())
	recipient = id.Recipient().String()
	return "# created: today\n# public key: " + recipient + "\n" + id.String() + "\n", recipient
}
