package sops

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// metadataKey is where a file has its metadata.
const metadataKey = "sops"

// maxMasterKeys bounds how many keys of one file are tried.
const maxMasterKeys = 256

// metadata are what a file says of its encryption.
type metadata struct {
	groups           []group
	threshold        int
	mac, modified    string
	macOnlyEncrypted bool
	rules            rules
}

// group are the master keys of which one is enough for the group's part.
type group struct {
	keys []masterKey
	// others are the kinds of keys that we cannot use: "kms".
	others []string
}

// masterKey is a part of the data key, encrypted to a key. id is public.
type masterKey struct {
	kind, id, encrypted string
}

// rules say which values of the file are encrypted. One of them is set.
type rules struct {
	unencryptedSuffix, encryptedSuffix   string
	unencryptedRegex, encryptedRegex     *regexp.Regexp
	unencryptedComment, encryptedComment *regexp.Regexp
}

// kinds are the master keys that sops knows.
var kinds = []string{"age", "pgp", "kms", "gcp_kms", "hckms", "azure_kv", "hc_vault"}

// readMetadata reads the value of the key "sops".
func readMetadata(value any) (*metadata, error) {
	m, ok := plain(value).(map[string]any)
	if !ok {
		return nil, errorf(Malformed, "the file's sops metadata are not a mapping")
	}
	md := &metadata{mac: text(m["mac"]), modified: text(m["lastmodified"]), macOnlyEncrypted: text(m["mac_only_encrypted"]) == "true"}
	if n, err := strconv.Atoi(text(m["shamir_threshold"])); err == nil {
		md.threshold = n
	}
	if g := readGroup(m); len(g.keys)+len(g.others) > 0 {
		md.groups = []group{g}
	} else {
		for _, e := range elements(m["key_groups"]) {
			if of, ok := e.(map[string]any); ok {
				md.groups = append(md.groups, readGroup(of))
			}
		}
	}
	count := 0
	for _, g := range md.groups {
		count += len(g.keys)
	}
	switch {
	case len(md.groups) == 0:
		return nil, errorf(Malformed, "the file's sops metadata name no key")
	case count > maxMasterKeys || len(md.groups) > maxMasterKeys:
		return nil, errorf(TooLarge, "the file is encrypted to more than %d keys", maxMasterKeys)
	}
	if md.threshold <= 0 || md.threshold > len(md.groups) {
		md.threshold = len(md.groups)
	}
	return md, md.readRules(m)
}

func readGroup(m map[string]any) group {
	var g group
	for _, kind := range kinds {
		list := elements(m[kind])
		if len(list) > 0 && kind != "age" && kind != "pgp" {
			g.others = append(g.others, kind)
			continue
		}
		for _, e := range list {
			k, _ := e.(map[string]any)
			id := text(k["recipient"])
			if kind == "pgp" {
				id = text(k["fp"])
			}
			g.keys = append(g.keys, masterKey{kind: kind, id: id, encrypted: text(k["enc"])})
		}
	}
	return g
}

func (md *metadata) readRules(m map[string]any) error {
	r := &md.rules
	r.unencryptedSuffix, r.encryptedSuffix = text(m["unencrypted_suffix"]), text(m["encrypted_suffix"])
	set := 0
	for _, suffix := range []string{r.unencryptedSuffix, r.encryptedSuffix} {
		if suffix != "" {
			set++
		}
	}
	for key, into := range map[string]**regexp.Regexp{
		"unencrypted_regex": &r.unencryptedRegex, "encrypted_regex": &r.encryptedRegex,
		"unencrypted_comment_regex": &r.unencryptedComment, "encrypted_comment_regex": &r.encryptedComment,
	} {
		expression := text(m[key])
		if expression == "" {
			continue
		}
		compiled, err := regexp.Compile(expression)
		if err != nil {
			return errorf(Malformed, "%s in the file's sops metadata is no regular expression", key)
		}
		*into = compiled
		set++
	}
	if set > 1 {
		return errorf(Malformed, "the file's sops metadata have more than one rule for what is encrypted")
	}
	if set == 0 {
		r.unencryptedSuffix = "_unencrypted" // sops' default
	}
	return nil
}

// encrypted says whether the value at path is, by the rules. comments are
// those before it, by level; isComment says that the value is the last of
// them.
func (r *rules) encrypted(path []string, comments [][]string, isComment bool) bool {
	some := func(match func(string) bool) bool { return slices.ContainsFunc(path, match) }
	switch {
	case r.unencryptedSuffix != "":
		return !some(func(s string) bool { return strings.HasSuffix(s, r.unencryptedSuffix) })
	case r.encryptedSuffix != "":
		return some(func(s string) bool { return strings.HasSuffix(s, r.encryptedSuffix) })
	case r.unencryptedRegex != nil:
		return !some(r.unencryptedRegex.MatchString)
	case r.encryptedRegex != nil:
		return some(r.encryptedRegex.MatchString)
	case r.unencryptedComment != nil:
		return !anyComment(comments, r.unencryptedComment)
	default:
		// The comment that turns encryption on is not encrypted itself.
		if last := len(comments) - 1; isComment && last >= 0 && len(comments[last]) > 0 {
			comments = slices.Clone(comments)
			comments[last] = comments[last][:len(comments[last])-1]
		}
		return anyComment(comments, r.encryptedComment)
	}
}

func anyComment(comments [][]string, expression *regexp.Regexp) bool {
	return slices.ContainsFunc(comments, func(level []string) bool { return slices.ContainsFunc(level, expression.MatchString) })
}

// text is a scalar of the metadata, which some formats have as a string only.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case int:
		return strconv.Itoa(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case time.Time:
		return v.Format(time.RFC3339)
	default:
		return ""
	}
}

// elements are those of a list, which flat formats have as a map by number.
func elements(v any) []any {
	switch v := v.(type) {
	case []any:
		return v
	case map[string]any:
		var list []any
		for i := range len(v) {
			e, ok := v[strconv.Itoa(i)]
			if !ok {
				break
			}
			list = append(list, e)
		}
		return list
	default:
		return nil
	}
}

// unflatten makes a tree of keys in which "__map_" and "__list_" stand for a
// level, as in "age__list_0__map_enc".
func unflatten(flat branch) map[string]any {
	root := map[string]any{}
	for _, it := range flat {
		key, _ := it.key.(string)
		steps := strings.Split(strings.ReplaceAll(key, "__list_", "__map_"), "__map_")
		at := root
		for _, step := range steps[:len(steps)-1] {
			next, ok := at[step].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[step] = next
			}
			at = next
		}
		at[steps[len(steps)-1]] = it.value
	}
	return root
}
