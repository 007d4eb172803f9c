package git

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// push is the beginning of a push: what is to become of which references
// (gitprotocol-pack(5), "Reference Update Request").
type push struct {
	// raw is what was read of the request.
	raw          string
	commands     []pushCommand
	capabilities []string
}

type pushCommand struct {
	// old and new are empty for the null hash.
	old, new, ref string
}

// maxCommandBytes bounds the part of a push before the pack.
const maxCommandBytes = 4 << 20

// readCommands reads the commands up to the flush packet, and nothing of the
// pack behind it.
func readCommands(r io.Reader) (*push, error) {
	p := &push{}
	var raw strings.Builder
	for {
		line, err := readPktLine(r, &raw)
		if err != nil {
			return nil, &badRequest{http.StatusBadRequest, "the push is malformed"}
		}
		if line == "" {
			p.raw = raw.String()
			return p, nil
		}
		if raw.Len() > maxCommandBytes {
			return nil, &badRequest{http.StatusRequestEntityTooLarge, "the push updates too many references"}
		}
		if strings.HasPrefix(line, "shallow ") {
			continue
		}
		line, capabilities, first := strings.Cut(line, "\x00")
		if first && len(p.commands) == 0 {
			p.capabilities = strings.Fields(capabilities)
		}
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 3)
		if len(f) != 3 || !hexHash.MatchString(f[0]) || !hexHash.MatchString(f[1]) {
			return nil, &badRequest{http.StatusBadRequest, "the push is malformed"} // a push certificate, too: not advertised
		}
		p.commands = append(p.commands, pushCommand{old: notNull(f[0]), new: notNull(f[1]), ref: f[2]})
	}
}

// readPktLine reads one packet (gitprotocol-common(5)), copying it to raw. A
// flush packet is "".
func readPktLine(r io.Reader, raw *strings.Builder) (string, error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(r, head); err != nil {
		return "", err
	}
	n, err := strconv.ParseUint(string(head), 16, 16)
	if err != nil || n != 0 && n < 5 || n > 65520 {
		return "", fmt.Errorf("packet of length %q", head)
	}
	raw.Write(head)
	if n == 0 {
		return "", nil
	}
	data := make([]byte, n-4)
	if _, err := io.ReadFull(r, data); err != nil {
		return "", err
	}
	raw.Write(data)
	return string(data), nil
}

func pktLine(s string) string { return fmt.Sprintf("%04x%s", len(s)+4, s) }

func (p *push) refs() []string {
	names := make([]string, len(p.commands))
	for i, c := range p.commands {
		names[i] = c.ref
	}
	return names
}

func (p *push) deletions() []string {
	var names []string
	for _, c := range p.commands {
		if c.new == "" {
			names = append(names, c.ref)
		}
	}
	return names
}

// checkPush returns the reason for each reference that may not be pushed, or
// nil. One refused reference refuses the push: what a person meant to be
// together stays together.
func (s *server) checkPush(r *repository, p *push) (map[string]string, error) {
	refused := map[string]string{}
	if len(p.commands) > s.limits.PushRefs {
		return p.refuseAll(fmt.Sprintf("%d references in one push, the limit is %d", len(p.commands), s.limits.PushRefs)), nil
	}
	created := 0
	for _, c := range p.commands {
		switch {
		case strings.HasPrefix(c.ref, "refs/changes/"), strings.HasPrefix(c.ref, ownRefs):
			refused[c.ref] = "written by the server alone"
		case !validRefName(c.ref):
			refused[c.ref] = "not a valid reference name, or too long"
		}
		if c.old == "" {
			created++
		}
	}
	if created > 0 && len(refused) == 0 {
		refs, err := r.refs.list("refs/")
		if err != nil {
			return nil, err
		}
		if n, limit := len(refs)+created, s.limitsOf(r).Refs; n > limit {
			for _, c := range p.commands {
				refused[c.ref] = fmt.Sprintf("the repository would have %d references, the limit is %d", n, limit)
			}
		}
	}
	if len(refused) == 0 {
		return nil, nil
	}
	for _, c := range p.commands {
		if refused[c.ref] == "" {
			refused[c.ref] = "another reference of this push was refused"
		}
	}
	return refused, nil
}

// refuseAll gives every reference of the push the same reason.
func (p *push) refuseAll(reason string) map[string]string {
	refused := map[string]string{}
	for _, c := range p.commands {
		refused[c.ref] = reason
	}
	return refused
}

// report is the answer to a push that was refused, in the form that the
// client asked for.
func (p *push) report(refused map[string]string) string {
	if !slices.Contains(p.capabilities, "report-status") && !slices.Contains(p.capabilities, "report-status-v2") {
		return "0000"
	}
	status := pktLine("unpack ok\n")
	for _, c := range p.commands {
		status += pktLine("ng " + c.ref + " " + refused[c.ref] + "\n")
	}
	status += "0000"
	band := 0
	switch {
	case slices.Contains(p.capabilities, "side-band-64k"):
		band = 65515
	case slices.Contains(p.capabilities, "side-band"):
		band = 995
	default:
		return status
	}
	var out strings.Builder
	for chunk := range slices.Chunk([]byte(status), band) {
		out.WriteString(pktLine("\x01" + string(chunk)))
	}
	return out.String() + "0000"
}

// noteDeletions writes down who is about to delete references.
func (r *repository) noteDeletions(refs []string, who string) error {
	if len(refs) == 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cursor.Deleting == nil {
		r.cursor.Deleting = map[string]deletion{}
	}
	for _, ref := range refs {
		r.cursor.Deleting[ref] = deletion{Who: who, When: time.Now().UTC().Truncate(time.Second)}
	}
	return r.cursor.save()
}

// forgetDeletions takes back what noteDeletions wrote of references that are
// still there: git refused.
func (r *repository) forgetDeletions(refs []string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	changed := false
	for _, ref := range refs {
		hash, err := r.refs.lookup(ref)
		if err != nil {
			return err
		}
		if _, noted := r.cursor.Deleting[ref]; noted && hash != "" {
			delete(r.cursor.Deleting, ref)
			changed = true
		}
	}
	if !changed {
		return nil
	}
	return r.cursor.save()
}
