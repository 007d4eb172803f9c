package render

import (
	"encoding/base64"
	"path"
	"regexp"
	"sort"
	"strings"

	"go.yaml.in/yaml/v3"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"sigs.k8s.io/kustomize/api/types"
)

// redacted stands in an error's text for what may be a secret.
const redacted = "[redacted]"

// minSecret is the length under which a string is not looked for: it would be
// found everywhere, and says little.
const minSecret = 3

// maxMessage bounds an error's text, which goes into conditions and logs.
const maxMessage = 2000

// redactor removes from the text of errors what must not be shown: the
// contents of values and of Secrets. Tools quote their input in errors.
type redactor struct{ secrets map[string]bool }

func newRedactor() redactor { return redactor{secrets: map[string]bool{}} }

func (r redactor) add(s string) {
	for _, line := range append(strings.Split(s, "\n"), s) {
		if line = strings.TrimSpace(line); len(line) >= minSecret {
			r.secrets[line] = true
		}
	}
}

// redact returns msg without secrets, the longest first, bounded in length.
func (r redactor) redact(msg string) string {
	secrets := sortedKeys(r.secrets)
	sort.SliceStable(secrets, func(i, k int) bool { return len(secrets[i]) > len(secrets[k]) })
	for _, s := range secrets {
		msg = strings.ReplaceAll(msg, s, redacted)
	}
	if len(msg) > maxMessage {
		msg = strings.ToValidUTF8(msg[:maxMessage], "") + "…"
	}
	return msg
}

// addValues adds all strings below v, or only those below a key that sounds
// like a secret's.
func (r redactor) addValues(v any, all bool, depth int) {
	if depth > maxDepth {
		return
	}
	switch v := v.(type) {
	case string:
		if all {
			r.add(v)
		}
	case map[string]any:
		for k, child := range v {
			r.addValues(child, all || secretKey.MatchString(k), depth+1)
		}
	case []any:
		for _, child := range v {
			r.addValues(child, all, depth+1)
		}
	}
}

// secretKey are the names under which charts' default values keep secrets.
var secretKey = regexp.MustCompile(`(?i)pass|secret|token|cred|private|apikey|accesskey|auth|cert|\bkey|salt|dsn|conn`)

// helmSecrets are all that the request's values say, and those of the charts'
// own values that sound like secrets.
func (j *job) helmSecrets(c *chart.Chart, values map[string]any) redactor {
	r := newRedactor()
	r.addValues(values, true, 0)
	var defaults func(c *chart.Chart)
	defaults = func(c *chart.Chart) {
		r.addValues(c.Values, false, 0)
		for _, d := range c.Dependencies() {
			defaults(d)
		}
	}
	defaults(c)
	return r
}

// templateError is how helm's engine names a place: "NAME:LINE:COLUMN".
var templateError = regexp.MustCompile(`([\w.-]+/(?:charts/[\w.-]+/)*templates/[^\s:()"']+):(\d+)(?::\d+)?`)

// quotedTemplate is what helm quotes of a template given to tpl.
var quotedTemplate = regexp.MustCompile(`(for|template) "(?:[^"\\]|\\.)*"`)

// chartError makes an *Error of what helm said.
func (j *job) chartError(err error, secrets redactor) error {
	if e := asError(err); e != nil {
		return e
	}
	if j.ctx.Err() != nil {
		return j.ctx.Err()
	}
	msg := err.Error()
	e := NewError(ChartFailed, j.dir, 0, "")
	if m := templateError.FindStringSubmatch(msg); m != nil {
		e.Path, e.Line = j.inTemplate(m[1]), atoi(m[2])
		msg = templateError.ReplaceAllString(msg, "$1:$2")
		msg = strings.TrimPrefix(msg, "execution error at ("+m[1]+":"+m[2]+"): ")
		msg = strings.TrimPrefix(msg, "parse error at ("+m[1]+":"+m[2]+"): ")
	}
	msg = quotedTemplate.ReplaceAllString(withoutQuotes(msg), "$1 …")
	e.Msg = secrets.redact(strings.Join(strings.Fields(msg), " "))
	return e
}

func atoi(digits string) int {
	n := 0
	for _, d := range digits {
		if n = n*10 + int(d-'0'); n > 1<<30 {
			return 0
		}
	}
	return n
}

// redact removes from a kustomize error what Secrets hold: those that were
// read, those that are generated, and the patches of the request.
func (f *kustomizeFS) redact(msg string) string {
	r := newRedactor()
	for file, data := range f.read {
		if isKustomizationName(path.Base(file)) {
			var k types.Kustomization
			if k.Unmarshal(data) == nil {
				f.addGenerated(r, path.Dir(file), &k)
			}
		}
		if strings.Contains(string(data), "Secret") {
			addSecretDocuments(r, data)
		}
	}
	for _, content := range f.job.opened {
		r.add(string(content))
		addScalars(r, content)
		addLines(r, content)
	}
	for _, p := range f.job.req.Kustomize.Patches {
		if strings.Contains(p.Patch, "Secret") || p.Target != nil && p.Target.Kind == "Secret" {
			addScalars(r, []byte(p.Patch))
		}
	}
	return r.redact(strings.Join(strings.Fields(msg), " "))
}

// addGenerated adds what secretGenerators say, and patches to Secrets.
func (f *kustomizeFS) addGenerated(r redactor, dir string, k *types.Kustomization) {
	k.FixKustomization()
	for _, g := range k.SecretGenerator {
		for _, l := range g.LiteralSources {
			r.add(l)
			if _, v, ok := strings.Cut(l, "="); ok {
				r.add(strings.Trim(v, `"'`))
			}
		}
		for _, p := range generatorPaths(g.KvPairSources) {
			data := f.read[path.Join(dir, p)]
			r.add(string(data))
			for _, line := range strings.Split(string(data), "\n") {
				if _, v, ok := strings.Cut(line, "="); ok {
					r.add(v)
				}
			}
		}
	}
	for _, p := range append(append([]types.Patch{}, k.Patches...), k.PatchesJson6902...) {
		if p.Target != nil && p.Target.Kind == "Secret" || strings.Contains(p.Patch, "Secret") {
			addScalars(r, []byte(p.Patch))
			addScalars(r, f.read[path.Join(dir, p.Path)])
		}
	}
	for _, p := range k.PatchesStrategicMerge {
		addSecretDocuments(r, []byte(p))
	}
}

// addSecretDocuments adds the data of the Secrets in a YAML stream.
func addSecretDocuments(r redactor, data []byte) {
	for _, doc := range splitDocuments(data) {
		m, _, err := doc.decode()
		if err != nil {
			if strings.Contains(string(doc.text), "Secret") {
				addLines(r, doc.text)
			}
			continue
		}
		if str(m["kind"]) != "Secret" {
			continue
		}
		r.addValues(m["stringData"], true, 0)
		r.addValues(m["data"], true, 0)
		if encoded, ok := m["data"].(map[string]any); ok {
			for _, v := range encoded {
				if plain, err := base64.StdEncoding.DecodeString(str(v)); err == nil {
					r.add(string(plain))
				}
			}
		}
	}
}

// addScalars adds the values of a patch, which may be an operation list.
func addScalars(r redactor, patch []byte) {
	for _, doc := range splitDocuments(patch) {
		var v any
		if yaml.Unmarshal(doc.text, &v) != nil {
			addLines(r, doc.text)
			continue
		}
		ops, ok := v.([]any)
		if !ok {
			addSecretDocuments(r, doc.text)
			continue
		}
		for _, op := range ops {
			if m, ok := op.(map[string]any); ok {
				r.addValues(m["value"], true, 0)
			}
		}
	}
}

// addLines adds what stands after the colon on each line of what cannot be
// decoded.
func addLines(r redactor, text []byte) {
	for _, line := range strings.Split(string(text), "\n") {
		if k, v, ok := strings.Cut(line, ":"); ok && !strings.HasSuffix(k, "kind") && !strings.HasSuffix(k, "name") && !strings.HasSuffix(k, "apiVersion") {
			r.add(strings.Trim(strings.TrimSpace(v), `"'`))
		}
	}
}
