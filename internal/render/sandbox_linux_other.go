//go:build linux && !amd64 && !arm64

package render

// Without a filter of system calls.
const (
	auditArch = 0
	x32Bit    = 0xffffffff
)

var archDenied []uint32
