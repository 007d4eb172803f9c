package sops

import "fmt"

// Reason classifies an Error.
type Reason string

// The reasons for which something is not decrypted.
const (
	// Malformed: it does not have sops' form, or not the form of its format.
	Malformed Reason = "Malformed"
	// NoKey: it is encrypted to other keys than those at hand.
	NoKey Reason = "NoKey"
	// Tampered: a value does not belong where it stands, or the MAC over all
	// values is of others.
	Tampered Reason = "Tampered"
	// TooLarge: it is over a limit.
	TooLarge Reason = "TooLarge"
)

// Error says why something cannot be decrypted, without a value of it.
type Error struct {
	Reason Reason
	Msg    string
}

func (e *Error) Error() string { return e.Msg }

// Hint says what to do about it.
func (e *Error) Hint() string {
	switch e.Reason {
	case NoKey:
		return "encrypt the file to one of our keys too (sops updatekeys), or add its key to the Secret"
	case Tampered:
		return "the file was changed without sops: take the last good revision of it and edit it with sops edit"
	default:
		return ""
	}
}

func errorf(r Reason, format string, args ...any) *Error {
	return &Error{Reason: r, Msg: fmt.Sprintf(format, args...)}
}
