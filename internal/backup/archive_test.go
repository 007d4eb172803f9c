package backup_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/backup"
	"github.com/fairway-cd/fairway/internal/core"
)

var name = core.Name{Namespace: "team", Name: "app"}

// written is a backup of a few members.
func written(t testing.TB) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := backup.NewWriter(&out, backup.Manifest{Fairway: "test", Time: time.Unix(1, 0).UTC(), Config: backup.Config{Port: 8420}})
	if err != nil {
		t.Fatal(err)
	}
	w.Counts.Repositories = 1
	for member, content := range map[string]string{
		backup.MemberObjects:          "{}\n",
		backup.GitFileMember("empty"): "",
		backup.RepositoryMember(name): "{}",
		backup.BundleMember(name):     strings.Repeat("bundle", 10000),
		backup.ImageMember(name):      "{}",
	} {
		if err := w.AddBytes(member, []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// read reads a backup to its end.
func read(r io.Reader) (map[string]string, *backup.Reader, error) {
	b, err := backup.NewReader(r)
	if err != nil {
		return nil, nil, err
	}
	defer b.Close()
	members := map[string]string{}
	for {
		m, err := b.Next()
		if errors.Is(err, io.EOF) {
			return members, b, nil
		}
		if err != nil {
			return nil, nil, err
		}
		if m.Kind == backup.Bundle {
			continue // what is not read is checked all the same
		}
		data, err := io.ReadAll(b)
		if err != nil {
			return nil, nil, err
		}
		members[m.String()] = string(data)
	}
}

func TestWhatWasWrittenIsRead(t *testing.T) {
	members, b, err := read(bytes.NewReader(written(t)))
	if err != nil {
		t.Fatal(err)
	}
	if len(members) != 4 || members[backup.MemberObjects] != "{}\n" || b.Counts.Repositories != 1 || b.Manifest.Config.Port != 8420 {
		t.Errorf("%v %+v %+v", members, b.Counts, b.Manifest)
	}
}

// member is one of an archive that nobody of ours wrote.
type member struct {
	name, content string
	header        func(*tar.Header)
}

// archive writes members as they are told, with the end that belongs to them.
func archive(t testing.TB, members ...member) []byte {
	t.Helper()
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	sum, size, n := sha256.New(), 0, 0
	for _, m := range members {
		if m.name == "end.json" && m.content == "" {
			m.content = fmt.Sprintf(`{"counts":{"bytes":%d},"members":%d,"sha256":"%x"}`, size, n, sum.Sum(nil))
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: m.name, Size: int64(len(m.content)), Format: tar.FormatPAX}
		if m.header != nil {
			m.header(h)
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg && h.Size == int64(len(m.content)) {
			if _, err := io.WriteString(w, m.content); err != nil {
				t.Fatal(err)
			}
		}
		n, size = n+1, size+len(m.content)
		fmt.Fprintf(sum, "%x %d %s\n", sha256.Sum256([]byte(m.content)), len(m.content), m.name)
	}
	_ = w.Flush()
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Whatever is wrong with a file is one clear error.
func TestBadArchives(t *testing.T) {
	manifest, end := member{name: "manifest.json", content: `{"format":1}`}, member{name: "end.json"}
	if _, _, err := read(bytes.NewReader(archive(t, manifest, end))); err != nil {
		t.Fatal(err)
	}
	with := func(m ...member) []byte { return archive(t, append(append([]member{manifest}, m...), end)...) }
	named := func(n string) []byte { return with(member{name: n, content: "x"}) }
	good := written(t)
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 1
	huge := func(h *tar.Header) { h.Size = 1 << 50 }
	for what, c := range map[string]struct {
		data []byte
		says string
	}{
		"nothing":              {nil, "ends before it is whole"},
		"text":                 {[]byte(strings.Repeat("hello", 100)), "is none"},
		"another zstd":         {zstandard(t, []byte(strings.Repeat("hello", 1000))), "is "},
		"another tar":          {archive(t, member{name: "etc/passwd", content: "x"}), "is none"},
		"cut in a member":      {good[:len(good)/2], "ends before it is whole"},
		"cut before the end":   {archive(t, manifest, member{name: "cluster/objects.jsonl", content: "x"}), "ends before it is whole"},
		"a bit flipped":        {flipped, "is damaged"},
		"a newer form":         {archive(t, member{name: "manifest.json", content: `{"format":2,"fairway":"9.9"}`}, end), "has form 2"},
		"a member too many":    {archive(t, manifest, member{name: "git/x", content: "x"}, member{name: "end.json", content: `{"members":1}`}), "members are not those"},
		"a member behind":      {archive(t, manifest, end, member{name: "git/x", content: "x"}), "after the end"},
		"a path outside":       {named("../../etc/passwd"), "no member has such a name"},
		"an absolute path":     {named("/etc/passwd"), "no member has such a name"},
		"a repository outside": {named("git/repos/../../x.git/repository.json"), "no member has such a name"},
		"a file outside":       {named("git/../x"), "no member has such a name"},
		"an image outside":     {named("registry/repositories/../x.json"), "no member has such a name"},
		"a blob outside":       {named("registry/blobs/sha256/../../x"), "no member has such a name"},
		"a short name":         {named("git/repos/x.git/repository.json"), "no member has such a name"},
		"a link":               {with(member{name: "git/x", header: func(h *tar.Header) { h.Typeflag, h.Linkname = tar.TypeSymlink, "/etc" }}), "no plain file"},
		"a hard link":          {with(member{name: "git/x", header: func(h *tar.Header) { h.Typeflag, h.Linkname = tar.TypeLink, "manifest.json" }}), "no plain file"},
		"a device":             {with(member{name: "git/x", header: func(h *tar.Header) { h.Typeflag = tar.TypeChar }}), "no plain file"},
		"a huge blob":          {archive(t, manifest, member{name: "registry/blobs/sha256/" + strings.Repeat("a", 64), header: huge}), "bytes"},
		"huge objects":         {archive(t, manifest, member{name: "cluster/objects.jsonl", header: huge}), "bytes"},
		"a huge manifest":      {archive(t, member{name: "manifest.json", header: huge}), "bytes"},
	} {
		t.Run(what, func(t *testing.T) {
			_, _, err := read(bytes.NewReader(c.data))
			var bad *backup.Error
			if !errors.As(err, &bad) || !strings.Contains(err.Error(), c.says) || bad.Hint() == "" {
				t.Errorf("got %v, want %q", err, c.says)
			}
		})
	}
}

func zstandard(t testing.TB, data []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return z.EncodeAll(data, nil)
}

// What is wrong with the disk is not the backup's fault.
func TestReadErrorIsNotTheBackupsFault(t *testing.T) {
	good := written(t)
	_, _, err := read(io.MultiReader(bytes.NewReader(good[:len(good)/2]), broken{}))
	var bad *backup.Error
	if errors.As(err, &bad) || !errors.Is(err, errDisk) {
		t.Errorf("got %v", err)
	}
}

var errDisk = errors.New("input/output error")

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errDisk }

func TestSecretsAreForTheirRecipients(t *testing.T) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	to, err := backup.ParseRecipients("# a comment\n" + key.Recipient().String() + "\n")
	if err != nil {
		t.Fatal(err)
	}
	var sealed bytes.Buffer
	w, err := backup.NewRecords(&sealed, to)
	if err != nil {
		t.Fatal(err)
	}
	object := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Secret",
		"metadata": map[string]any{"name": "s"}, "data": map[string]any{"password": "c3dvcmRmaXNo"}}}
	if err := w.Add(backup.Record{Object: object}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed.Bytes(), []byte("c3dvcmRmaXNo")) {
		t.Error("the secret is in clear")
	}
	records := func(data []byte, key age.Identity) ([]backup.Record, error) {
		var all []backup.Record
		err := backup.ReadRecords(bytes.NewReader(data), backup.MemberSecrets, []age.Identity{key}, func(one backup.Record) error {
			all = append(all, one)
			return nil
		})
		return all, err
	}
	if all, err := records(sealed.Bytes(), key); err != nil || len(all) != 1 || all[0].Object.GetName() != "s" {
		t.Errorf("%v %v", all, err)
	}
	var bad *backup.Error
	if _, err := records(sealed.Bytes(), other); !errors.As(err, &bad) || !strings.Contains(err.Error(), "other keys") {
		t.Errorf("a wrong key: %v", err)
	}
	if _, err := records(sealed.Bytes()[:sealed.Len()-5], key); !errors.As(err, &bad) {
		t.Errorf("cut short: %v", err)
	}
	changed := bytes.Clone(sealed.Bytes())
	changed[len(changed)-1] ^= 1
	if _, err := records(changed, key); !errors.As(err, &bad) {
		t.Errorf("changed: %v", err)
	}
	for _, text := range []string{"age1nonsense", key.String(), ""} {
		if _, err := backup.ParseRecipients(text); err == nil || strings.Contains(err.Error(), key.String()) {
			t.Errorf("recipient: %v", err)
		}
	}
	if _, err := backup.ParseIdentities(strings.NewReader("AGE-SECRET-KEY-1XYZ")); err == nil || strings.Contains(err.Error(), "XYZ") {
		t.Errorf("identity: %v", err)
	}
}

// Whatever is read, what is accepted is named as it would be written, and no
// name leads anywhere.
func FuzzRead(f *testing.F) {
	f.Add("cluster/objects.jsonl", "{}")
	f.Add("git/repos/team/app.git/repository.json", `{"refs":{}}`)
	f.Add("git/repos/../../../x.git/repository.bundle", "x")
	f.Add("registry/repositories/team/a/b.json", "{}")
	f.Add("registry/blobs/sha256/"+strings.Repeat("0", 64), "x")
	f.Add("git/mirrors.yaml", "")
	f.Fuzz(func(t *testing.T, name, content string) {
		if len(name) > 100 || strings.ContainsRune(name, 0) {
			return
		}
		members, _, err := read(bytes.NewReader(archive(t, member{name: "manifest.json", content: `{"format":1}`},
			member{name: name, content: content}, member{name: "end.json"})))
		var bad *backup.Error
		if err != nil && !errors.As(err, &bad) {
			t.Fatalf("%v", err)
		}
		for got := range members {
			if got != name || strings.Contains(got, "..") && !strings.HasPrefix(got, "git/") || strings.HasPrefix(got, "/") {
				t.Errorf("%q was read as %q", name, got)
			}
		}
	})
}

// Lines that are no objects are refused, without what is in them.
func FuzzReadRecords(f *testing.F) {
	f.Add([]byte(`{"object":{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}}`))
	f.Add([]byte(`{"file":"tls/ca.pem","data":"eA=="}`))
	f.Add([]byte("{\"object\":{\"kind\":1}}\n\n[]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		err := backup.ReadRecords(bytes.NewReader(data), backup.MemberObjects, nil, func(one backup.Record) error {
			if o := one.Object; o != nil && (o.GetName() == "" || o.GetKind() == "") {
				t.Errorf("an object without a name: %v", o)
			}
			_, err := json.Marshal(one)
			return err
		})
		var bad *backup.Error
		if err != nil && !errors.As(err, &bad) {
			t.Errorf("%v", err)
		}
	})
}
