package keyring

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// maxRequest bounds what git says to a helper; it has a few short lines.
const maxRequest = 64 << 10

// request is what git asks of a credential helper (git-credential(1), "INPUT/
// OUTPUT FORMAT").
type request struct {
	protocol, host, password string
}

func readRequest(r io.Reader) (request, error) {
	var req request
	lines := bufio.NewScanner(io.LimitReader(r, maxRequest))
	lines.Buffer(nil, maxRequest)
	for lines.Scan() && lines.Text() != "" {
		key, value, found := strings.Cut(lines.Text(), "=")
		if !found {
			return request{}, fmt.Errorf("a line of git's request has no '='")
		}
		switch key {
		case "protocol":
			req.protocol = value
		case "host":
			req.host = value
		case "password":
			req.password = value
		}
	}
	if err := lines.Err(); err != nil {
		return request{}, fmt.Errorf("reading git's request: %w", err)
	}
	return req, nil
}

// Help answers git as its credential helper, for one operation. "get" gives the
// token of the server. "erase", which git says when the server refused it,
// forgets exactly that token. "store" does nothing: tokens come from a login,
// not from what somebody typed. Operations that are not known are to be
// ignored, says git.
func (k *Keyring) Help(operation string, in io.Reader, out io.Writer) error {
	if operation != "get" && operation != "erase" {
		return nil
	}
	req, err := readRequest(in)
	if err != nil {
		return err
	}
	server, err := ParseServer(req.protocol + "://" + req.host)
	if err != nil {
		return nil // not one of ours: git goes on to the next helper
	}
	token, found, err := k.Token(server)
	if err != nil || !found {
		return err
	}
	if operation == "erase" {
		if req.password == token {
			return k.Delete(server)
		}
		return nil
	}
	_, err = fmt.Fprintf(out, "username=%s\npassword=%s\n", UserName, token)
	return err
}
