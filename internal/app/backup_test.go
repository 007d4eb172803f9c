package app

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"github.com/fairway-cd/fairway/internal/backup"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/registry"
)

// backupOf is a backup of these members, in their order.
func backupOf(t *testing.T, m backup.Manifest, members ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := backup.NewWriter(&out, m)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(members); i += 2 {
		if err := w.AddBytes(members[i], []byte(members[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// sealedFor is a secrets member with a file of that name.
func sealedFor(t *testing.T, to age.Recipient, file string) string {
	t.Helper()
	var out bytes.Buffer
	w, err := backup.NewRecords(&out, []age.Recipient{to})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Add(backup.Record{File: file, Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// What is wrong with a backup is one error, and nothing is left, neither in
// the directory nor anywhere else.
func TestBadBackupsLeaveNothing(t *testing.T) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	name := core.Name{Namespace: "team", Name: "app"}
	d := digest.FromString("content")
	plain, sealed := backup.Manifest{Fairway: "test"}, backup.Manifest{Fairway: "test", Secrets: true}
	objects := []string{backup.MemberObjects, ""}
	of := func(members ...string) []byte { return backupOf(t, plain, append(objects[:2:2], members...)...) }
	cursor := `"cursor":{"id":"` + strings.Repeat("0", 32) + `"}`
	for what, c := range map[string]struct {
		data []byte
		says string
	}{
		"no objects":               {backupOf(t, plain), "it is missing"},
		"objects twice":            {of(objects...), "there twice"},
		"objects that are none":    {backupOf(t, plain, backup.MemberObjects, "{\"object\":{}}\n"), "no object"},
		"a file among objects":     {backupOf(t, plain, backup.MemberObjects, `{"file":"tls/ca.pem","data":"eA=="}`), "no file of an instance"},
		"no secrets":               {backupOf(t, sealed, objects...), "it is missing"},
		"another key":              {backupOf(t, sealed, append(objects[:2:2], backup.MemberSecrets, sealedFor(t, other.Recipient(), tlsAuthority))...), "other keys"},
		"a secret file outside":    {backupOf(t, sealed, append(objects[:2:2], backup.MemberSecrets, sealedFor(t, key.Recipient(), "../../x"))...), "no file of an instance"},
		"secrets that are none":    {backupOf(t, sealed, append(objects[:2:2], backup.MemberSecrets, "hello")...), "secrets.age"},
		"a repository that is no":  {of(backup.RepositoryMember(name), "hello"), "repository.json"},
		"a reference outside":      {of(backup.RepositoryMember(name), `{"refs":{"refs/../../x":"`+strings.Repeat("a", 40)+`"},`+cursor+`}`, backup.BundleMember(name), "x"), "not valid"},
		"no objects of Git":        {of(backup.RepositoryMember(name), `{"refs":{"refs/heads/x":"`+strings.Repeat("a", 40)+`"},`+cursor+`}`), "objects are missing"},
		"a bundle of nothing":      {of(backup.BundleMember(name), "x"), "belongs to no repository"},
		"a repository twice":       {of(backup.RepositoryMember(name), `{`+cursor+`}`, backup.RepositoryMember(name), `{`+cursor+`}`), "exists"},
		"a name Git does not take": {of(backup.RepositoryMember(core.Name{Namespace: "team", Name: "a/b"}), `{`+cursor+`}`), "a/b"},
		"another file of Git":      {of(backup.GitFileMember("key"), "x"), "no file of a Git directory"},
		"rules that are none":      {of(backup.GitFileMember("mirrors.yaml"), "hello: ["), "mirrors.yaml"},
		"a blob of another digest": {of(backup.BlobMember(d), "other"), "another digest"},
		"an image without content": {of(backup.ImageMember(name), `{"blobs":{"`+d.String()+`":"`+d.String()+`"}}`), "is missing"},
		"a tag outside":            {of(backup.BlobMember(d), "content", backup.ImageMember(name), `{"tags":{"../x":{"current":"`+d.String()+`"}},"manifests":{"`+d.String()+`":"`+d.String()+`"}}`), "not valid"},
		"a port that is none":      {backupOf(t, backup.Manifest{Config: backup.Config{Port: 70000}}, objects...), "port"},
	} {
		t.Run(what, func(t *testing.T) {
			err := restoreInto(t, c.data, RestoreOptions{Identities: []age.Identity{key}})
			var bad *backup.Error
			if !errors.As(err, &bad) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), key.String()) {
				t.Errorf("got %v, want %q", err, c.says)
			}
		})
	}
	t.Run("no key", func(t *testing.T) {
		err := restoreInto(t, backupOf(t, sealed, objects...), RestoreOptions{})
		var none *NoIdentityError
		if !errors.As(err, &none) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("more than the disk holds", func(t *testing.T) {
		err := restoreInto(t, bomb(t, d), RestoreOptions{})
		var room *StartError
		if !errors.As(err, &room) || !strings.Contains(err.Error(), "needs") {
			t.Errorf("got %v", err)
		}
	})
}

// bomb announces content that no disk has room for.
func bomb(t *testing.T, d digest.Digest) []byte {
	t.Helper()
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	manifest := `{"format":1}`
	for _, h := range []*tar.Header{{Name: "manifest.json", Size: int64(len(manifest))}, {Name: backup.BlobMember(d), Size: 1 << 39}} {
		h.Typeflag, h.Format = tar.TypeReg, tar.FormatPAX
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(manifest)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// restoreInto restores into a new directory and says the error; whatever is
// left fails the test.
func restoreInto(t *testing.T, data []byte, o RestoreOptions) error {
	t.Helper()
	above := t.TempDir()
	inst, err := InstanceAt(filepath.Join(above, "data"))
	if err != nil {
		t.Fatal(err)
	}
	o.Progress = func(Step) {}
	_, failed := inst.Restore(t.Context(), bytes.NewReader(data), o)
	left, err := os.ReadDir(above)
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}
	return failed
}

// What is there already is not touched, and what is half there is not started.
func TestRestoreOnlyWhereNothingIs(t *testing.T) {
	good := backupOf(t, backup.Manifest{Fairway: "test"}, backup.MemberObjects, "")
	inst, err := OpenInstance(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(inst.Dir(), "git", "kept")
	if err := os.MkdirAll(kept, 0o700); err != nil {
		t.Fatal(err)
	}
	var taken *NotEmptyError
	if _, err := inst.Restore(t.Context(), bytes.NewReader(good), RestoreOptions{Progress: func(Step) {}}); !errors.As(err, &taken) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Error(err)
	}
	if err := os.Mkdir(inst.path(restoreDir), 0o700); err != nil {
		t.Fatal(err)
	}
	var half *HalfRestoredError
	if _, err := inst.Start(t.Context(), "/nowhere", func(Step) {}); !errors.As(err, &half) {
		t.Errorf("start: %v", err)
	}
	if err := NewServer(inst, func(Step) {}).Run(t.Context()); !errors.As(err, &half) {
		t.Errorf("serve: %v", err)
	}
	if _, err := inst.Backup(t.Context(), io.Discard, BackupOptions{}); !errors.As(err, &half) {
		t.Errorf("backup: %v", err)
	}
	if s, err := inst.Status(t.Context()); err != nil || s.State != StateHalf {
		t.Errorf("status: %+v %v", s, err)
	}
}

// An image whose content is collected while it is copied is read again; what
// is then still missing goes without its tags, and damage is said.
func TestBackupOfImagesThatAreCollected(t *testing.T) {
	inst, err := OpenInstance(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	in, err := registry.NewImporter(inst.path("registry"))
	if err != nil {
		t.Fatal(err)
	}
	stays, goes := digest.FromString("stays"), digest.FromString("goes")
	for _, c := range []string{"stays", "goes"} {
		if err := in.Content(digest.FromString(c), strings.NewReader(c)); err != nil {
			t.Fatal(err)
		}
	}
	name := core.Name{Namespace: "team", Name: "app"}
	if err := in.Repository(t.Context(), name, registry.Copy{
		Tags:      map[string]registry.TagCopy{"a": {Current: stays}, "b": {Current: goes}},
		Manifests: map[digest.Digest]digest.Digest{stays: stays, goes: goes},
	}); err != nil {
		t.Fatal(err)
	}
	path := func(d digest.Digest) string {
		return inst.path("registry", "docker", "registry", "v2", "blobs", "sha256", d.Encoded()[:2], d.Encoded(), "data")
	}
	if err := os.Remove(path(goes)); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	images := func() (backup.Counts, error) {
		out.Reset()
		w, err := backup.NewWriter(&out, backup.Manifest{Time: time.Unix(1, 0)})
		if err != nil {
			t.Fatal(err)
		}
		b := &backingUp{Writer: w, inst: inst, options: BackupOptions{Progress: func(Step) {}}}
		if err := b.images(t.Context()); err != nil {
			return b.Counts, err
		}
		return b.Counts, b.Close()
	}
	counts, err := images()
	if err != nil || counts.Tags != 1 || counts.Blobs != 1 || counts.Images != 1 {
		t.Errorf("%+v %v", counts, err)
	}
	info, err := ReadBackup(bytes.NewReader(out.Bytes()))
	if err != nil || len(info.Images) != 1 || info.Images[0] != "team/app" {
		t.Errorf("%+v %v", info, err)
	}
	if err := os.WriteFile(path(stays), []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	var damaged *damagedError
	if _, err := images(); !errors.As(err, &damaged) {
		t.Errorf("damaged content: %v", err)
	}
}

// Manifests that name the port of before still mean our own repositories.
func TestFormerPortsAreOurs(t *testing.T) {
	inst := &Instance{Config: Config{Port: 9000, FormerPorts: []int{8420}}}
	got := strings.Join(inst.bases(), " ")
	for _, want := range []string{"http://127.0.0.1:9000/git/", "http://localhost:8420/git/"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in %s", want, got)
		}
	}
}
