package sops

import (
	"strconv"
	"time"
)

// A file is a list of branches, one a document. A value is nil, a string, int,
// float64, bool or time.Time, a comment (in lists), a branch, or a []any.
type (
	branch []item
	item   struct {
		key   any // string, or comment where the item is one
		value any
	}
	comment struct {
		text   string
		inline bool
	}
)

// take removes the items of a key from the branch and returns the first value.
func (b *branch) take(key string) (value any, found bool) {
	rest := (*b)[:0:0]
	for _, it := range *b {
		if it.key != key {
			rest = append(rest, it)
			continue
		}
		if !found {
			value, found = it.value, true
		}
	}
	*b = rest
	return value, found
}

// plain makes maps and lists of a value, without its comments.
func plain(v any) any {
	switch v := v.(type) {
	case branch:
		m := make(map[string]any, len(v))
		for _, it := range v {
			if key, ok := it.key.(string); ok {
				m[key] = plain(it.value)
			}
		}
		return m
	case []any:
		list := make([]any, 0, len(v))
		for _, e := range v {
			if _, isComment := e.(comment); !isComment {
				list = append(list, plain(e))
			}
		}
		return list
	default:
		return v
	}
}

// macBytes are what a value adds to the MAC.
func macBytes(v any) ([]byte, bool) {
	switch v := v.(type) {
	case string:
		return []byte(v), true
	case int:
		return []byte(strconv.Itoa(v)), true
	case float64:
		return []byte(strconv.FormatFloat(v, 'f', -1, 64)), true
	case bool:
		if v {
			return []byte("True"), true
		}
		return []byte("False"), true
	case time.Time:
		text, err := v.MarshalText()
		return text, err == nil
	default:
		return nil, false
	}
}
