package mark

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"
)

// leaf is an owned field: the beginnings of the hashes of how the owned fields
// name it, and of what is in it.
type leaf struct{ path, value uint32 }

// leafSize is a leaf's in bytes.
const leafSize = 8

// leaves are written behind the hash of owned fields, in base64.
type leaves []leaf

// leafMark is between the hash of owned fields and the leaves.
const leafMark = "~"

// maxLeaves bounds what the leaves add to an object, to a third of the 256 KiB
// that its annotations may have. With more of them, what an ignored manager
// takes over counts as changed.
const maxLeaves = 8192

func leafOf(path string, value []byte) leaf {
	p, v := sha256.Sum256([]byte(path)), sha256.Sum256(value)
	return leaf{binary.BigEndian.Uint32(p[:]), binary.BigEndian.Uint32(v[:])}
}

func (l leaves) String() string {
	b := make([]byte, 0, len(l)*leafSize)
	for _, f := range l {
		b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, f.path), f.value)
	}
	return base64.RawStdEncoding.EncodeToString(b)
}

// readLeaves returns the leaves of a hash of owned fields that has them.
func readLeaves(owned string) (leaves, bool) {
	_, text, ok := strings.Cut(owned, leafMark)
	b, err := base64.RawStdEncoding.DecodeString(text)
	if !ok || err != nil || len(b)%leafSize != 0 {
		return nil, false
	}
	l := make(leaves, 0, len(b)/leafSize)
	for ; len(b) > 0; b = b[leafSize:] {
		l = append(l, leaf{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])})
	}
	return l, true
}

// without returns the leaves at other paths than these.
func (l leaves) without(paths map[uint32]bool) leaves {
	return slices.DeleteFunc(slices.Clone(l), func(f leaf) bool { return paths[f.path] })
}

func (l leaves) equal(other leaves) bool { return slices.Equal(l, other) }
