package backup

import (
	"fmt"
	"time"
)

// Format is the version of the file's form that is written here. A reader
// takes this one and earlier ones.
const Format = 1

// Manifest is the first member.
type Manifest struct {
	Format int `json:"format"`
	// Fairway and Kubernetes are the versions that wrote it.
	Fairway    string    `json:"fairway"`
	Kubernetes string    `json:"kubernetes,omitempty"`
	Time       time.Time `json:"time"`
	// Secrets says whether they are in it.
	Secrets bool `json:"secrets"`
	// Config is what the instance was started with.
	Config Config `json:"config"`
}

// Config is what of an instance's configuration matters on another machine.
type Config struct {
	// Port is in the URLs by which manifests name repositories and images;
	// FormerPorts are earlier ones that they may still name.
	Port        int      `json:"port"`
	FormerPorts []int    `json:"formerPorts,omitempty"`
	Listen      []string `json:"listen,omitempty"`
	Nodes       string   `json:"nodes,omitempty"`
	// DefaultServiceAccount and NoCrossNamespaceRefs are the lockdown of Flux'
	// kinds: a restore must not have less of it.
	DefaultServiceAccount string `json:"defaultServiceAccount,omitempty"`
	NoCrossNamespaceRefs  bool   `json:"noCrossNamespaceRefs,omitempty"`
}

// Counts say how much there is of everything.
type Counts struct {
	Repositories int   `json:"repositories"`
	Images       int   `json:"images"` // repositories of images
	Tags         int   `json:"tags"`
	Blobs        int   `json:"blobs"`
	Objects      int   `json:"objects"`
	Secrets      int   `json:"secrets"`
	Bytes        int64 `json:"bytes"` // of all members, before compression
}

// end is the last member: without it a file is cut short.
type end struct {
	Counts Counts `json:"counts"`
	// Members is how many there are before this one, and SHA256 the digest
	// over a line for each: its digest, size and name.
	Members int    `json:"members"`
	SHA256  string `json:"sha256"`
}

// Error says what is wrong with a file that is to be read.
type Error struct {
	Reason string
	hint   string
	err    error
}

func (e *Error) Error() string {
	if e.err != nil {
		return fmt.Sprintf("the backup %s: %v", e.Reason, e.err)
	}
	return "the backup " + e.Reason
}

func (e *Error) Unwrap() error { return e.err }

// Hint implements core.Hinted.
func (e *Error) Hint() string { return e.hint }

// Bad is the error for a member that cannot be taken.
func Bad(member string, err error) error {
	return &Error{Reason: fmt.Sprintf("is damaged, or was not made by 'fairway backup': %.200q", member), err: err, hint: useAnother}
}

const useAnother = "nothing was restored; use another backup"

func truncated() error {
	return &Error{Reason: "ends before it is whole", hint: useAnother}
}
