package sops

import (
	"bytes"
	"encoding/json"
	"errors"
)

// readJSON reads one object, and keeps the order of its keys, which the MAC is
// over.
func readJSON(data []byte) ([]branch, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	r := &jsonReader{d: d}
	t, err := d.Token()
	if err != nil || t != json.Delim('{') {
		return nil, errorf(Malformed, "the file is not a JSON object")
	}
	b, err := r.object(0)
	if err != nil {
		if e := (*Error)(nil); errors.As(err, &e) {
			return nil, e
		}
		return nil, errorf(Malformed, "the file is no JSON") // the error may quote a value
	}
	return []branch{b}, nil
}

type jsonReader struct {
	yamlReader
	d *json.Decoder
}

func (r *jsonReader) object(depth int) (branch, error) {
	var b branch
	for r.d.More() {
		key, err := r.d.Token()
		if err != nil {
			return nil, err
		}
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		b = append(b, item{key, v})
	}
	_, err := r.d.Token() // the end
	return b, err
}

func (r *jsonReader) value(depth int) (any, error) {
	if err := r.count(depth); err != nil {
		return nil, err
	}
	t, err := r.d.Token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case json.Delim:
		if t == '{' {
			return r.object(depth)
		}
		return r.array(depth)
	case json.Number:
		if i, err := t.Int64(); err == nil {
			return int(i), nil
		}
		return t.Float64()
	default:
		return t, nil
	}
}

func (r *jsonReader) array(depth int) (any, error) {
	var list []any
	for r.d.More() {
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err := r.d.Token()
	return list, err
}

// writeJSON writes the object as sops does, with tabs.
func writeJSON(branches []branch) ([]byte, error) {
	var flat, out bytes.Buffer
	err := encodeJSON(&flat, branches[0])
	if err == nil {
		err = json.Indent(&out, flat.Bytes(), "", "\t")
	}
	if err != nil {
		return nil, errorf(Malformed, "the file cannot be written as JSON")
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

func encodeJSON(out *bytes.Buffer, v any) error {
	separator := ""
	switch v := v.(type) {
	case branch:
		out.WriteByte('{')
		for _, it := range v {
			if _, ok := it.key.(comment); ok {
				continue
			}
			out.WriteString(separator)
			if err := encodeJSON(out, it.key); err != nil {
				return err
			}
			out.WriteString(": ")
			if err := encodeJSON(out, it.value); err != nil {
				return err
			}
			separator = ","
		}
		out.WriteByte('}')
		return nil
	case []any:
		out.WriteByte('[')
		for _, e := range v {
			if _, ok := e.(comment); ok {
				continue
			}
			out.WriteString(separator)
			if err := encodeJSON(out, e); err != nil {
				return err
			}
			separator = ","
		}
		out.WriteByte(']')
		return nil
	default:
		data, err := json.Marshal(v)
		out.Write(data)
		return err
	}
}

// writeBinary returns the one value that a binary file is wrapped into.
func writeBinary(branches []branch) ([]byte, error) {
	data, _ := branches[0].take("data")
	text, ok := data.(string)
	if !ok {
		return nil, errorf(Malformed, "the file is not one that sops has encrypted as binary")
	}
	return []byte(text), nil
}
