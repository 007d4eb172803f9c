package git

import (
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func FuzzFindRevision(f *testing.F) {
	for _, s := range []string{"", "HEAD", "main", "v1.2.3", "1.2.*", ">=1.0.0 <2.0.0", "^1", "refs/heads/main", strings.Repeat("a", 40), "abc1234", "a..b", "-x", "x.lock", "@{-1}", "a\nb", "*", "feature/x"} {
		f.Add(s)
	}
	r := &repository{dir: f.TempDir()}
	r.refs = refStore{dir: r.dir}
	f.Fuzz(func(t *testing.T, s string) {
		// It can be looked up without leaving the repository.
		if _, spec, err := r.findRevision(&RevisionError{}, s); err == nil && !shortHash.MatchString(spec) {
			t.Errorf("%q gave the object name %q", s, spec)
		}
	})
}

func FuzzParseReflogLine(f *testing.F) {
	hash := strings.Repeat("1", 40)
	for _, s := range []string{
		hash + " " + strings.Repeat("0", 40) + " alice <" + pushEmail + "> 1700000000 +0000\tpush",
		hash + " " + hash + "  <> 1 +0000", hash, "", hash + " " + hash + " %zz <" + pushEmail + "> 1 +0000", hash + " " + hash + " a <b> -1 +0000",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, ok := parseReflogLine([]byte(s))
		if !ok {
			return
		}
		for _, h := range []string{l.Old, l.New} {
			if h != "" && !hexHash.MatchString(h) {
				t.Errorf("%q gave the hash %q", s, h)
			}
		}
		if l.Who != "" && !strings.Contains(s, pushEmail) {
			t.Errorf("%q gave the user %q", s, l.Who)
		}
	})
}

// FuzzWho sends users' names through the identity in the reflog.
func FuzzWho(f *testing.F) {
	for _, s := range []string{"alice", "system:serviceaccount:default:robot", "a <b> c", ".dots.", "ü ", "%41", "\n", "\"quoted\"", "a\tb"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, who string) {
		env := committerEnv(who)
		name := strings.TrimPrefix(env[0], "GIT_COMMITTER_NAME=")
		if strings.Trim(name, ".,:;<>\"\\' ") != name || strings.ContainsAny(name, "\n<>\x00") {
			t.Fatalf("git would change %q", name)
		}
		hash := strings.Repeat("1", 40)
		l, ok := parseReflogLine([]byte(hash + " " + hash + " " + name + " <" + pushEmail + "> 1 +0000\tpush"))
		if !ok || l.Who != who {
			t.Errorf("%q came back as %q", who, l.Who)
		}
	})
}

func FuzzParseRemote(f *testing.F) {
	for _, s := range []string{"https://github.com/org/repo.git", "http://u:p@host:8080/a/b/", "git@github.com:org/repo.git", "ssh://git@host:22/x", "ssh://-oX/y", "file:///etc", "ext::sh", "host:path", "https://host/../../x", "https://h/%2e%2e/x", "https://[::1]:3000/a", "https://h/a?b#c", "HTTPS://H/A", "a@b@c:d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := parseRemote(s)
		if err != nil {
			return
		}
		shown := u.String()
		if strings.HasPrefix(shown, "-") || strings.ContainsAny(shown, "\n\x00 ") {
			t.Errorf("%q gave %q", s, shown)
		}
		if u.password != "" && len(u.password) > 8 && !strings.Contains(u.host+u.path+u.user, u.password) && strings.Contains(shown, u.password) {
			t.Errorf("%q shows its password: %q", s, shown)
		}
		again, err := parseRemote(shown)
		if err != nil || again.key() != u.key() || again.scheme != u.scheme {
			t.Errorf("%q is %q, and that is %+v (%v)", s, shown, again, err)
		}
	})
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"web", "web.git", "/team/web.git", "a/b/c", "..", "a/../b", "", ".git", "A", "a.git.git", "x.lock", "a//b", "a\x00b"} {
		f.Add(s)
	}
	s := &Store{dir: "/root"}
	f.Fuzz(func(t *testing.T, path string) {
		name, err := s.parseName(path)
		if err != nil {
			return
		}
		rel, err := filepath.Rel("/root/repos", s.repositoryDir(name))
		if err != nil || strings.Count(rel, "/") != 1 || strings.Contains(rel, "..") || !strings.HasSuffix(rel, ".git") {
			t.Errorf("%q leads to %q", path, rel)
		}
		if again, err := s.parseName(name.String()); err != nil || again != name {
			t.Errorf("%q is %v, and that is %v (%v)", path, name, again, err)
		}
	})
}

func FuzzParseTree(f *testing.F) {
	f.Add([]byte("100644 a\x00" + strings.Repeat("x", 20)))
	f.Add([]byte("40000 ..\x00" + strings.Repeat("x", 20)))
	f.Add([]byte("120000 l\x00" + strings.Repeat("x", 20) + "160000 s\x00" + strings.Repeat("x", 20)))
	f.Add([]byte("100644 a"))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := parseTree(data, 20)
		if err != nil {
			return
		}
		for i, e := range entries {
			if !fs.ValidPath(e.Name) && strings.ToValidUTF8(e.Name, "") == e.Name || strings.Contains(e.Name, "/") || len(e.Hash) != 40 {
				t.Errorf("entry %+v", e)
			}
			if i > 0 && entries[i-1].Name >= e.Name {
				t.Errorf("%q before %q", entries[i-1].Name, e.Name)
			}
		}
	})
}

func FuzzReadCommands(f *testing.F) {
	hash := strings.Repeat("1", 40)
	f.Add(pktLine(strings.Repeat("0", 40)+" "+hash+" refs/heads/main\x00report-status side-band-64k") + "0000PACK")
	f.Add(pktLine("shallow "+hash) + "0000")
	f.Add("0004")
	f.Add("ffff")
	f.Fuzz(func(t *testing.T, body string) {
		p, err := readCommands(strings.NewReader(body))
		if err != nil {
			return
		}
		if !strings.HasPrefix(body, p.raw) {
			t.Errorf("%q is not the beginning of %q", p.raw, body)
		}
		refused := map[string]string{}
		for _, c := range p.commands {
			refused[c.ref] = "no"
		}
		p.report(refused)
	})
}

func FuzzHookPayload(f *testing.F) {
	f.Add(`{"repository":{"clone_url":"https://a/b","pushed_at":1700000000}}`)
	f.Add(`{"url":"https://a/b","timestamp":"2026-01-01T00:00:00Z"}`)
	f.Add(`{"project":{"git_ssh_url":"git@a:b/c.git"}}`)
	f.Fuzz(func(t *testing.T, body string) {
		p, err := parseHook([]byte(body))
		if err != nil {
			return
		}
		for _, key := range p.urlKeys() {
			if strings.HasPrefix(key, "/") || strings.Contains(key, "@") && !strings.Contains(key, "/") {
				t.Errorf("key %q", key)
			}
		}
		_ = p.checkDate(hookKinds["generic"], time.Unix(1700000000, 0))
	})
}
