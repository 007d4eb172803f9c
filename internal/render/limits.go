package render

import "time"

// Limits bound what one render may take. The zero value of a field is its
// default.
type Limits struct {
	// MaxFileBytes is for one file that is read; 16 MiB.
	MaxFileBytes int64
	// MaxInputBytes is for all files that are read; 128 MiB.
	MaxInputBytes int64
	// MaxFiles is for the files and directories that are looked at; 20000.
	MaxFiles int
	// MaxObjects is for the objects that come out; 20000.
	MaxObjects int
	// MaxOutputBytes is for the objects that come out, in JSON; 64 MiB.
	MaxOutputBytes int64
}

// DefaultTimeout is how long a worker may take for one render.
const DefaultTimeout = 60 * time.Second

func (l Limits) withDefaults() Limits {
	def := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	def(&l.MaxFileBytes, 16<<20)
	def(&l.MaxInputBytes, 128<<20)
	def(&l.MaxOutputBytes, 64<<20)
	if l.MaxFiles == 0 {
		l.MaxFiles = 20000
	}
	if l.MaxObjects == 0 {
		l.MaxObjects = 20000
	}
	return l
}
