package sops

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// yamlIndent is sops' own.
const yamlIndent = 4

// readYAML reads a stream of documents. Comments are items, for sops encrypts
// them too; where they belong is sops' choice (stores/yaml).
func readYAML(data []byte) ([]branch, error) {
	r := &yamlReader{}
	var branches []branch
	for d := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var doc yaml.Node
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, errorf(Malformed, "the file is no YAML") // the error may quote a value
		}
		b, err := r.document(&doc)
		if err != nil {
			return nil, err
		}
		branches = append(branches, b)
	}
	return branches, nil
}

// yamlReader makes branches of nodes, and counts what it makes: an alias is
// read again each time it stands somewhere.
type yamlReader struct{ values int }

// count bounds the values and their depth.
func (r *yamlReader) count(depth int) error {
	if r.values++; r.values > maxValues {
		return errorf(TooLarge, "the file holds more than %d values", maxValues)
	}
	if depth > maxDepth {
		return errorf(TooLarge, "the file is more than %d levels deep", maxDepth)
	}
	return nil
}

func (r *yamlReader) document(doc *yaml.Node) (branch, error) {
	b := note(note(branch{}, doc.HeadComment, false), doc.LineComment, false)
	for _, n := range doc.Content {
		if n.Kind == yaml.AliasNode {
			n = n.Alias
		}
		if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
			b = note(note(b, n.HeadComment, false), n.LineComment, false)
			continue
		}
		if n.Kind != yaml.MappingNode {
			return nil, errorf(Malformed, "a document of the file is not a mapping")
		}
		more, err := r.mapping(n, false, 0)
		if err != nil {
			return nil, err
		}
		b = append(b, more...)
	}
	return note(b, doc.FootComment, false), nil
}

// mapping reads a mapping. commented says that its own comments were read.
func (r *yamlReader) mapping(n *yaml.Node, commented bool, depth int) (branch, error) {
	b := branch{}
	if !commented {
		b = note(note(b, n.HeadComment, false), n.LineComment, false)
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		b = note(note(b, key.HeadComment, false), key.LineComment, false)
		leaf := value.Kind == yaml.ScalarNode || value.Kind == yaml.AliasNode
		if leaf {
			b = note(note(b, value.HeadComment, false), value.LineComment, true)
		}
		name, ok := decodeScalar(key).(string)
		if !ok || seen[name] {
			return nil, errorf(Malformed, "line %d of the file has a key that is no string, or that is there twice", key.Line)
		}
		seen[name] = true
		v, err := r.value(value, leaf, depth+1)
		if err != nil {
			return nil, err
		}
		b = append(b, item{name, v})
		if leaf {
			b = note(b, value.FootComment, false)
		}
		b = note(b, key.FootComment, false)
	}
	if !commented {
		b = note(b, n.FootComment, false)
	}
	return b, nil
}

func (r *yamlReader) value(n *yaml.Node, commented bool, depth int) (any, error) {
	if err := r.count(depth); err != nil {
		return nil, err
	}
	switch n.Kind {
	case yaml.MappingNode:
		return r.mapping(n, commented, depth)
	case yaml.SequenceNode:
		return r.sequence(n, commented, depth)
	case yaml.AliasNode:
		return r.value(n.Alias, false, depth+1)
	default:
		return decodeScalar(n), nil
	}
}

func (r *yamlReader) sequence(n *yaml.Node, commented bool, depth int) (any, error) {
	var list []any
	if !commented {
		list = noteList(noteList(list, n.HeadComment, false), n.LineComment, false)
	}
	for _, e := range n.Content {
		list = noteList(noteList(list, e.HeadComment, false), e.LineComment, true)
		v, err := r.value(e, true, depth+1)
		if err != nil {
			return nil, err
		}
		list = noteList(append(list, v), e.FootComment, false)
	}
	if !commented {
		list = noteList(list, n.FootComment, false)
	}
	return list, nil
}

// decodeScalar is the value of a scalar; one that is not of its tag is nil.
func decodeScalar(n *yaml.Node) (v any) {
	if n.Kind != yaml.ScalarNode || n.Decode(&v) != nil {
		return nil
	}
	return v
}

// note adds a comment's lines to a branch.
func note(b branch, text string, inline bool) branch {
	for _, c := range lines(text, inline) {
		b = append(b, item{key: c})
	}
	return b
}

func noteList(list []any, text string, inline bool) []any {
	for _, c := range lines(text, inline) {
		list = append(list, c)
	}
	return list
}

// lines are those of a comment, without their "#".
func lines(text string, inline bool) []comment {
	var out []comment
	for _, line := range strings.Split(text, "\n") {
		if line != "" {
			out = append(out, comment{text: line[1:], inline: inline})
		}
	}
	return out
}

// writeYAML writes the documents as sops does.
func writeYAML(branches []branch) ([]byte, error) {
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(yamlIndent)
	for _, b := range branches {
		doc := &yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{mappingNode(b)}}
		if err := e.Encode(doc); err != nil {
			return nil, errorf(Malformed, "the file cannot be written as YAML")
		}
	}
	if err := e.Close(); err != nil {
		return nil, errorf(Malformed, "the file cannot be written as YAML")
	}
	return out.Bytes(), nil
}

// pending are comments that were read and wait for the node that they are of.
type pending struct{ head, inline []string }

func (p *pending) add(c comment) {
	if c.inline {
		p.inline = append(p.inline, c.text)
		return
	}
	p.head = append(p.head, c.text)
}

// before puts the comments above n.
func (p *pending) before(n *yaml.Node) {
	n.HeadComment = joinComments(n.HeadComment, p.head, true)
	p.head = nil
}

// beside puts the inline ones on n's line.
func (p *pending) beside(n *yaml.Node) {
	n.LineComment = joinComments(n.LineComment, p.inline, false)
	p.inline = nil
}

// rest puts what is left at the end: below the last node, or above the parent
// of none.
func (p *pending) rest(parent, last *yaml.Node) {
	left := append(p.head, p.inline...)
	if last == nil {
		parent.HeadComment = joinComments(parent.HeadComment, left, true)
		return
	}
	last.FootComment = joinComments(last.FootComment, left, false)
}

func joinComments(have string, more []string, first bool) string {
	if len(more) == 0 {
		return have
	}
	text := "#" + strings.Join(more, "\n#")
	switch {
	case have == "":
		return text
	case first:
		return text + "\n" + have
	default:
		return have + "\n" + text
	}
}

func mappingNode(b branch) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	p := &pending{}
	var last *yaml.Node
	for _, it := range b {
		if c, ok := it.key.(comment); ok {
			p.add(c)
			continue
		}
		if last == nil {
			p.before(n)
		}
		key := scalarNode(it.key)
		p.before(key)
		value := valueNode(it.value)
		p.beside(value)
		n.Content = append(n.Content, key, value)
		last = key
	}
	p.rest(n, last)
	return n
}

func sequenceNode(list []any) *yaml.Node {
	n := &yaml.Node{Kind: yaml.SequenceNode}
	p := &pending{}
	var last *yaml.Node
	for _, v := range list {
		if c, ok := v.(comment); ok {
			p.add(c)
			continue
		}
		if last == nil {
			p.before(n)
		}
		last = valueNode(v)
		p.before(last)
		p.beside(last)
		n.Content = append(n.Content, last)
	}
	p.rest(n, last)
	return n
}

func valueNode(v any) *yaml.Node {
	switch v := v.(type) {
	case branch:
		return mappingNode(v)
	case []any:
		return sequenceNode(v)
	default:
		return scalarNode(v)
	}
}

func scalarNode(v any) *yaml.Node {
	n := &yaml.Node{}
	if n.Encode(v) != nil {
		n.Kind, n.Tag, n.Value = yaml.ScalarNode, "!!null", "null"
	}
	return n
}
