package sops

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"gopkg.in/ini.v1"
)

// readDotenv reads NAME=VALUE lines.
func readDotenv(data []byte) ([]branch, error) {
	var b branch
	for line := range strings.SplitSeq(string(data), "\n") {
		if line == "" {
			continue
		}
		if len(b) > maxValues {
			return nil, errorf(TooLarge, "the file holds more than %d values", maxValues)
		}
		if text, ok := strings.CutPrefix(line, "#"); ok {
			b = append(b, item{key: comment{text: text}})
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			return nil, errorf(Malformed, "the file has a line that is not NAME=VALUE")
		}
		b = append(b, item{name, strings.ReplaceAll(value, `\n`, "\n")})
	}
	return []branch{b}, nil
}

// flatMetadata takes the lines sops_… out.
func flatMetadata(branches []branch) (any, bool) {
	var rest, metadata branch
	for _, it := range branches[0] {
		key, _ := it.key.(string)
		if name, ok := strings.CutPrefix(key, metadataKey+"_"); ok {
			metadata = append(metadata, item{name, it.value})
			continue
		}
		rest = append(rest, it)
	}
	branches[0] = rest
	return toBranch(unflatten(metadata)), len(metadata) > 0
}

func writeDotenv(branches []branch) ([]byte, error) {
	var out bytes.Buffer
	for _, it := range branches[0] {
		if c, ok := it.key.(comment); ok {
			fmt.Fprintf(&out, "#%s\n", c.text)
			continue
		}
		fmt.Fprintf(&out, "%s=%s\n", it.key, strings.ReplaceAll(scalarText(it.value), "\n", `\n`))
	}
	return out.Bytes(), nil
}

// readINI reads sections of keys.
func readINI(data []byte) ([]branch, error) {
	file, err := ini.LoadSources(ini.LoadOptions{AllowNonUniqueSections: true}, data)
	if err != nil {
		return nil, errorf(Malformed, "the file is no INI file") // the error may quote a value
	}
	var b branch
	for _, section := range file.Sections() {
		items := branch{}
		if section.Comment != "" {
			items = append(items, item{key: comment{text: iniComment(section.Comment)}})
		}
		for _, key := range section.Keys() {
			items = append(items, item{key.Name(), key.Value()})
			if key.Comment != "" {
				items = append(items, item{key: comment{text: iniComment(key.Comment)}})
			}
		}
		b = append(b, item{section.Name(), items})
	}
	return []branch{b}, nil
}

func iniComment(text string) string {
	if strings.HasPrefix(text, ";") {
		return strings.TrimLeft(text, "; ")
	}
	if strings.HasPrefix(text, "#") {
		return strings.TrimLeft(text, "# ")
	}
	return text
}

// iniMetadata takes the section sops out.
func iniMetadata(branches []branch) (any, bool) {
	value, ok := branches[0].take(metadataKey)
	flat, isBranch := value.(branch)
	if !ok || !isBranch {
		return nil, false
	}
	for i := range flat {
		if s, ok := flat[i].value.(string); ok {
			flat[i].value = strings.ReplaceAll(s, `\n`, "\n")
		}
	}
	return toBranch(unflatten(flat)), true
}

func writeINI(branches []branch) ([]byte, error) {
	file := ini.Empty(ini.LoadOptions{AllowNonUniqueSections: true})
	file.DeleteSection(ini.DefaultSection)
	for _, it := range branches[0] {
		name, ok1 := it.key.(string)
		items, ok2 := it.value.(branch)
		if !ok1 || !ok2 {
			return nil, errorf(Malformed, "the file cannot be written as INI")
		}
		section, err := file.NewSection(name)
		if err != nil {
			return nil, errorf(Malformed, "the file has a section that cannot be written as INI")
		}
		if err := writeSection(section, items); err != nil {
			return nil, err
		}
	}
	var out bytes.Buffer
	if _, err := file.WriteTo(&out); err != nil {
		return nil, errorf(Malformed, "the file cannot be written as INI")
	}
	return out.Bytes(), nil
}

func writeSection(section *ini.Section, items branch) error {
	var last *ini.Key
	for i, it := range items {
		if c, ok := it.key.(comment); ok {
			switch {
			case i == 0:
				section.Comment = c.text
			case last != nil:
				last.Comment = c.text
			}
			continue
		}
		var err error
		if last, err = section.NewKey(it.key.(string), scalarText(it.value)); err != nil {
			return errorf(Malformed, "the file has a key that cannot be written as INI")
		}
	}
	return nil
}

// scalarText is a value in a format that has only text.
func scalarText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case float64:
		s := strconv.FormatFloat(v, 'G', -1, 64)
		if !strings.ContainsAny(s, ".E") {
			s = strconv.FormatFloat(v, 'f', 1, 64)
		}
		return s
	case time.Time:
		return v.Format(time.RFC3339)
	default:
		return fmt.Sprint(v)
	}
}

// toBranch makes a branch of a map, as readMetadata wants it.
func toBranch(m map[string]any) branch {
	var b branch
	for key, v := range m {
		if child, ok := v.(map[string]any); ok {
			v = toBranch(child)
		}
		b = append(b, item{key, v})
	}
	return b
}
