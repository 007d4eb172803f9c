package identity

import (
	"fmt"
	"time"

	"github.com/prometheus/common/model"
)

// minTTL and maxTTL are what a TokenRequest takes.
const (
	minTTL = 10 * time.Minute
	maxTTL = (1 << 32) * time.Second
)

// TTLError says why a text is not the lifetime of a token.
type TTLError struct {
	Text, Reason string
}

func (e *TTLError) Error() string { return fmt.Sprintf("lifetime %q: %s", e.Text, e.Reason) }

// Hint implements core.Hinted.
func (e *TTLError) Hint() string { return "a lifetime is such as 12h, 90d, 8w or 1y; 10m is the least" }

// ParseTTL reads the lifetime of a token: Prometheus' notation, with the units
// y, w, d, h, m and s. Errors are *TTLError.
func ParseTTL(text string) (time.Duration, error) {
	d, err := model.ParseDuration(text)
	if err != nil {
		return 0, &TTLError{text, "not a lifetime"}
	}
	ttl := time.Duration(d)
	switch {
	case ttl < minTTL:
		return 0, &TTLError{text, "too short"}
	case ttl > maxTTL:
		return 0, &TTLError{text, "too long"}
	}
	return ttl, nil
}
