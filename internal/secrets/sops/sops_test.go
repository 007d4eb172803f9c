package sops

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/fairway-cd/fairway/internal/testkit"
)

// names are what sops calls the formats.
var names = map[Format]string{YAML: "yaml", JSON: "json", Dotenv: "dotenv", INI: "ini", Binary: "binary"}

// oracle is sops itself, in one test.
type oracle struct {
	*testkit.Sops
	t testing.TB
}

func newOracle(t testing.TB) *oracle { return &oracle{testkit.NewSops(t), t} }

func (o *oracle) encrypt(f Format, text string, args ...string) []byte {
	o.t.Helper()
	return []byte(o.Encrypt(o.t, names[f], text, args...))
}

func (o *oracle) encryptBy(f Format, text, rule string) []byte {
	o.t.Helper()
	return []byte(o.EncryptBy(o.t, names[f], text, rule))
}

func (o *oracle) decrypt(f Format, data []byte) []byte {
	o.t.Helper()
	return []byte(o.Decrypt(o.t, names[f], string(data)))
}

func (o *oracle) ageKey() (entry []byte, recipient string) {
	o.t.Helper()
	file, recipient := o.AgeKey(o.t)
	return []byte(file), recipient
}

// pgpKey makes a PGP key that the oracle has in its key rings.
func (o *oracle) pgpKey() (entry []byte, fingerprint string) {
	o.t.Helper()
	e, err := openpgp.NewEntity("team", "", "team@example.com", &packet.Config{Algorithm: packet.PubKeyAlgoRSA, RSABits: 2048})
	if err != nil {
		o.t.Fatal(err)
	}
	var public, private, armored bytes.Buffer
	if err := errors.Join(e.SerializePrivate(&private, nil), e.Serialize(&public)); err != nil {
		o.t.Fatal(err)
	}
	w, err := armor.Encode(&armored, openpgp.PrivateKeyType, nil)
	if err != nil {
		o.t.Fatal(err)
	}
	_, err = w.Write(private.Bytes())
	err = errors.Join(err, w.Close(),
		os.WriteFile(filepath.Join(o.Home, "pubring.gpg"), public.Bytes(), 0o600),
		os.WriteFile(filepath.Join(o.Home, "secring.gpg"), private.Bytes(), 0o600))
	if err != nil {
		o.t.Fatal(err)
	}
	return armored.Bytes(), strings.ToUpper(hex.EncodeToString(e.PrimaryKey.Fingerprint))
}

func keysOf(t testing.TB, entries map[string][]byte) *Keys {
	t.Helper()
	k, err := ParseKeys(entries)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

const secretYAML = `# about the secret
apiVersion: v1
kind: Secret # inline
metadata:
    name: db
    # above a label
    labels: {a: b, "n": "1"}
stringData:
    # above the password
    password: hunter22-canary
    empty: ""
    multi: |
        line one
        line two
    # at the end
list:
    # first
    - one # inline one
    - 2
    - 3.5
    - true
    - null
    - {x: y}
    # last
time: 2024-01-02T03:04:05Z
big: 123456789012
float: 1e21
# the end
`

var plainFiles = map[string]struct {
	format Format
	text   string
}{
	"yaml":         {YAML, secretYAML},
	"yaml two":     {YAML, secretYAML + "---\na: b\n---\n# only a comment\nc: [d, [e, f], {}]\n"},
	"yaml anchors": {YAML, "a: &x {b: c, d: 1}\ne: *x\nf: [*x]\n"},
	"json":         {JSON, `{"z":"last<&>","a":[1,2.5,true,null,"x",{"b":{}},[]],"big":9007199254740993,"f":1.0e3,"n":null}`},
	"dotenv":       {Dotenv, "# a comment\nUSER=admin\nPASSWORD=a=b c\nEMPTY=\nLINES=a\\nb\n"},
	"ini":          {INI, "top = 1\n; of the section\n[db]\n; of the key\nuser = admin\npassword = a b;c\nempty =\n\n[db2]\nx = 1\n"},
	"binary":       {Binary, "\x00not text\n\ttabs \"quoted\" é\n"},
}

// rulesets are the ways to say what is encrypted, in .sops.yaml.
var rulesets = map[string]string{
	"all":               "",
	"data only":         "encrypted_regex: ^(data|stringData|password|PASSWORD|db)$",
	"not metadata":      "unencrypted_regex: ^(apiVersion|kind|metadata|USER)$",
	"encrypted suffix":  "encrypted_suffix: Data",
	"unencrypted":       "unencrypted_suffix: name",
	"mac of encrypted":  "encrypted_regex: ^(data|stringData|password|PASSWORD)$\n  mac_only_encrypted: true",
	"encrypted comment": "encrypted_comment_regex: above the password|of the key|a comment",
	"unencrypted note":  "unencrypted_comment_regex: inline|a comment",
}

func TestDecryptsAsSopsDoes(t *testing.T) {
	o := newOracle(t)
	entry, recipient := o.ageKey()
	keys := keysOf(t, map[string][]byte{"team.agekey": entry})
	for file, plain := range plainFiles {
		for name, rule := range rulesets {
			t.Run(file+"/"+name, func(t *testing.T) {
				o := *o
				o.t = t
				encrypted := o.encryptBy(plain.format, plain.text, "age: "+recipient+"\n  "+rule)
				if !Encrypted(encrypted, plain.format) {
					t.Fatalf("no mark of sops is seen in\n%s", encrypted)
				}
				want := o.decrypt(plain.format, encrypted)
				have, err := Decrypt(encrypted, plain.format, keys)
				if err != nil {
					t.Fatalf("%v\n%s", err, encrypted)
				}
				if !bytes.Equal(have, want) {
					t.Fatalf("have\n%s\nwant\n%s", have, want)
				}
			})
		}
	}
}

func TestDecryptsByPGP(t *testing.T) {
	o := newOracle(t)
	entry, fingerprint := o.pgpKey()
	encrypted := o.encrypt(YAML, secretYAML, "--pgp", fingerprint)
	have, err := Decrypt(encrypted, YAML, keysOf(t, map[string][]byte{"team.asc": entry}))
	if err != nil {
		t.Fatal(err)
	}
	if want := o.decrypt(YAML, encrypted); !bytes.Equal(have, want) {
		t.Fatalf("have\n%s\nwant\n%s", have, want)
	}
}

// TestDecryptsByKeysOfGnuPG: what gpg makes today (elliptic curves, its own
// packets), exported as Flux documents it.
func TestDecryptsByKeysOfGnuPG(t *testing.T) {
	program, err := exec.LookPath("gpg")
	if err != nil {
		t.Fatal("gpg is not installed: hack/deps.sh test installs it")
	}
	o := newOracle(t)
	home, err := os.MkdirTemp("", "gpg") // an agent's socket has a short path
	if err != nil {
		t.Fatal(err)
	}
	gpg := func(args ...string) []byte {
		cmd := exec.Command(program, append([]string{"--batch", "--homedir", home}, args...)...)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("gpg %v: %v", args, err)
		}
		return out
	}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		os.RemoveAll(home)
	})
	gpg("--passphrase", "", "--quick-generate-key", "team@example.com", "default", "default", "never")
	fingerprint := ""
	for line := range strings.SplitSeq(string(gpg("--list-keys", "--with-colons")), "\n") {
		if f := strings.Split(line, ":"); f[0] == "fpr" && fingerprint == "" {
			fingerprint = f[9]
		}
	}
	entry := gpg("--armor", "--export-secret-keys", fingerprint)
	o.Env = append(o.Env, "GNUPGHOME="+home, "SOPS_GPG_EXEC="+program)
	encrypted := o.encrypt(YAML, secretYAML, "--pgp", fingerprint)
	if _, err := Decrypt(encrypted, YAML, keysOf(t, map[string][]byte{"team.asc": entry})); err != nil {
		t.Fatal(err)
	}
}

// TestSharesOfTheKey: two of three groups are needed, in every format, for the
// flat ones have their metadata in another form.
func TestSharesOfTheKey(t *testing.T) {
	o := newOracle(t)
	entry1, recipient1 := o.ageKey()
	entry2, recipient2 := o.ageKey()
	_, recipient3 := o.ageKey()
	rule := "shamir_threshold: 2\n  key_groups:"
	for _, r := range []string{recipient1, recipient2, recipient3} {
		rule += "\n  - age: [" + r + "]"
	}
	for file, plain := range plainFiles {
		t.Run(file, func(t *testing.T) {
			o := *o
			o.t = t
			encrypted := o.encryptBy(plain.format, plain.text, rule)
			keys := keysOf(t, map[string][]byte{"1.agekey": entry1, "2.agekey": entry2})
			if _, err := Decrypt(encrypted, plain.format, keys); err != nil {
				t.Fatal(err)
			}
			_, err := Decrypt(encrypted, plain.format, keysOf(t, map[string][]byte{"1.agekey": entry1}))
			if reasonOf(err) != NoKey {
				t.Fatalf("with one share of two: %v", err)
			}
		})
	}
}

func reasonOf(err error) Reason {
	var e *Error
	if !errors.As(err, &e) {
		return ""
	}
	return e.Reason
}

// canary is the value that no error may hold.
const canary = "hunter22-canary"

func TestRefuses(t *testing.T) {
	o := newOracle(t)
	entry, recipient := o.ageKey()
	other, _ := newOracle(t).ageKey()
	good := o.encrypt(YAML, secretYAML, "--age", recipient, "--encrypted-regex", "^stringData$")
	replace := func(old, new string) []byte {
		out := bytes.Replace(good, []byte(old), []byte(new), 1)
		if bytes.Equal(out, good) {
			t.Fatalf("%q is not in the file", old)
		}
		return out
	}
	lineOf := func(key string) string {
		for line := range strings.SplitSeq(string(good), "\n") {
			if strings.HasPrefix(strings.TrimSpace(line), key+":") {
				return line
			}
		}
		t.Fatalf("no line %s", key)
		return ""
	}
	password := lineOf("password")
	deep := strings.Repeat("[", 500) + strings.Repeat("]", 500)
	for name, c := range map[string]struct {
		data   []byte
		format Format
		keys   map[string][]byte
		want   Reason
	}{
		"another key":      {good, YAML, map[string][]byte{"x.agekey": other}, NoKey},
		"no file of sops":  {[]byte("password: " + canary), YAML, nil, Malformed},
		"another format":   {good, JSON, nil, Malformed},
		"no YAML":          {[]byte("a: [" + canary + "\nmac: ENC["), YAML, nil, Malformed},
		"no dotenv":        {[]byte(canary + "\nsops_mac=ENC["), Dotenv, nil, Malformed},
		"no INI":           {[]byte("[" + canary), INI, nil, Malformed},
		"no JSON":          {[]byte(`{"a":"` + canary + `",}`), JSON, nil, Malformed},
		"a list":           {[]byte("- " + canary), YAML, nil, Malformed},
		"a changed name":   {replace("name: db", "name: other"), YAML, nil, Tampered},
		"a removed value":  {replace(password+"\n", ""), YAML, nil, Tampered},
		"a moved value":    {replace("    password:", "    passw0rd:"), YAML, nil, Tampered},
		"a value in clear": {replace(password, "    password: "+canary), YAML, nil, Malformed},
		"a cut value":      {replace("type:str]", "type:"), YAML, nil, Malformed},
		"huge":             {bytes.Repeat([]byte("a"), MaxBytes+1), YAML, nil, TooLarge},
		"deep YAML":        {[]byte("a: " + deep + "\nsops: {mac: 'ENC['}"), YAML, nil, TooLarge},
		"deep JSON":        {[]byte(`{"a":` + deep + `}`), JSON, nil, TooLarge},
		"billion laughs":   {laughs(), YAML, nil, TooLarge},
		"twice":            {replace("    empty:", "    password: a\n    empty:"), YAML, nil, Malformed},
		"a wrong rule":     {replace("encrypted_regex: ^stringData$", "encrypted_regex: ("), YAML, nil, Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			if c.keys == nil {
				c.keys = map[string][]byte{"x.agekey": entry}
			}
			out, err := Decrypt(c.data, c.format, keysOf(t, c.keys))
			if reasonOf(err) != c.want {
				t.Fatalf("%v (%q), want %s; out %q", err, reasonOf(err), c.want, out)
			}
			if strings.Contains(err.Error(), canary) {
				t.Fatalf("the error holds the value: %v", err)
			}
		})
	}
}

// laughs is a file that aliases make large.
func laughs() []byte {
	var b strings.Builder
	b.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n")
	for i := 1; i < 12; i++ {
		n, p := strconv.Itoa(i), strconv.Itoa(i-1)
		b.WriteString("a" + n + ": &a" + n + " [" + strings.Repeat("*a"+p+",", 9) + "*a" + p + "]\n")
	}
	return []byte(b.String())
}

func TestDecryptObject(t *testing.T) {
	o := newOracle(t)
	entry, recipient := o.ageKey()
	keys := keysOf(t, map[string][]byte{"x.agekey": entry})
	text := `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"db"},"data":{"a":"aGk="},"stringData":{"password":"` + canary + `","n":5,"l":["x",{"y":"z"}]}}`
	var encrypted map[string]any
	if err := json.Unmarshal(o.encrypt(JSON, text, "--age", recipient, "--encrypted-regex", "^(data|stringData)$"), &encrypted); err != nil {
		t.Fatal(err)
	}
	if !EncryptedObject(encrypted) {
		t.Fatal("not seen to be encrypted")
	}
	// What a build changes outside of the encrypted values does no harm.
	encrypted["metadata"] = map[string]any{"name": "pre-db", "namespace": "shop"}
	have, err := DecryptObject(encrypted, keys)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := json.Marshal(have)
	want := `{"apiVersion":"v1","data":{"a":"aGk="},"kind":"Secret","metadata":{"name":"pre-db","namespace":"shop"},` +
		`"stringData":{"l":["x",{"y":"z"}],"n":5,"password":"` + canary + `"}}`
	if string(got) != want {
		t.Fatalf("have %s\nwant %s", got, want)
	}
	// A value that is put in another place does not open.
	values := encrypted["stringData"].(map[string]any)
	values["other"] = values["password"]
	if _, err := DecryptObject(encrypted, keys); reasonOf(err) != Tampered {
		t.Fatalf("moved: %v", err)
	}
	delete(values, "other")
	encrypted["spec"] = map[string]any{"x": values["password"]}
	if _, err := DecryptObject(encrypted, keys); reasonOf(err) != Malformed {
		t.Fatalf("outside of the rules: %v", err)
	}
}

func TestParseKeys(t *testing.T) {
	o := newOracle(t)
	good, _ := o.ageKey()
	secret := strings.TrimSpace(string(good[strings.Index(string(good), "AGE-SECRET"):]))
	protected, err := openpgp.NewEntity("x", "", "x@example.com", nil)
	if err == nil {
		err = protected.EncryptPrivateKeys([]byte("passphrase"), nil)
	}
	var armored bytes.Buffer
	w, err2 := armor.Encode(&armored, openpgp.PrivateKeyType, nil)
	if err := errors.Join(err, err2, protected.SerializePrivateWithoutSigning(w, nil), w.Close()); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		entries map[string][]byte
		want    string
	}{
		"none":       {map[string][]byte{"identity": []byte("x"), "sops.aws-kms": []byte("x")}, "no entry *.agekey or *.asc"},
		"a torn one": {map[string][]byte{"x.agekey": []byte(secret[:40])}, `entry "x.agekey" is no age key file`},
		"a plugin":   {map[string][]byte{"x.agekey": []byte("AGE-PLUGIN-YUBIKEY-1QQ")}, "not supported"},
		"no armor":   {map[string][]byte{"x.asc": []byte(secret)}, "holds no PGP private key"},
		"passphrase": {map[string][]byte{"x.asc": armored.Bytes()}, "protected by a passphrase"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseKeys(c.entries)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v, want %q", err, c.want)
			}
			if strings.Contains(err.Error(), secret[:40]) {
				t.Fatalf("the error holds the key: %v", err)
			}
		})
	}
	one, two := keysOf(t, map[string][]byte{"a.agekey": good}), keysOf(t, map[string][]byte{"a.agekey": append(good, '\n')})
	if one.Digest() == two.Digest() || one.Digest() != keysOf(t, map[string][]byte{"a.agekey": good, "x": nil}).Digest() {
		t.Fatal("the digest is not of the keys")
	}
}

// FuzzDecrypt: no input panics, and no input that was not encrypted to our key
// opens.
func FuzzDecrypt(f *testing.F) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		f.Fatal(err)
	}
	keys := keysOf(f, map[string][]byte{"x.agekey": []byte(id.String())})
	for _, seed := range []string{
		"a: ENC[AES256_GCM,data:AA==,iv:AA==,tag:AA==,type:str]\nsops: {age: [{recipient: age1, enc: x}], mac: 'ENC[', lastmodified: x}\n",
		`{"data":"ENC[AES256_GCM,data:AA==,iv:AA==,tag:AA==,type:str]","sops":{"key_groups":[{"age":[{"enc":"x"}]}],"mac":"ENC["}}`,
		"A=b\nsops_age__list_0__map_enc=x\nsops_mac=ENC[\nsops_lastmodified=2024-01-01T00:00:00Z\n",
		"[a]\nb = c\n[sops]\nage__list_0__map_enc = x\nmac = ENC[\n", "a: &a [*a]\n", "---\n---\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, format := range []Format{YAML, JSON, Dotenv, INI, Binary} {
			if out, err := Decrypt(data, format, keys); err == nil {
				t.Fatalf("%s opened to %q", format, out)
			}
		}
		var object map[string]any
		if json.Unmarshal(data, &object) == nil {
			_, _ = DecryptObject(object, keys)
		}
	})
}

func TestCombine(t *testing.T) {
	// Every element but 0 has an inverse.
	for a := 1; a < 256; a++ {
		if multiply(byte(a), inverse(byte(a))) != 1 {
			t.Fatalf("%d has no inverse", a)
		}
	}
	share := make([]byte, 33)
	if _, err := rand.Read(share); err != nil {
		t.Fatal(err)
	}
	share[32] = 1
	for name, shares := range map[string][][]byte{"twice": {share, share}, "lengths": {share, share[:5]}, "short": {{1}}} {
		if _, err := combine(shares); reasonOf(err) != Malformed {
			t.Errorf("%s: %v", name, err)
		}
	}
}
