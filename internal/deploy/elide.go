package deploy

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// mostQuoted is the longest value that a message quotes, in bytes.
const mostQuoted = 100

// elide leaves a long value out of what validation says of a field, which is
// "Invalid value: VALUE: rule" (field.Error of Kubernetes, where VALUE is JSON
// or a quoted string): of a template that cannot be changed the API server
// quotes all, and the rule comes after it. The value is left out as a whole:
// a part of it would not be known for what it is part of by who keeps private
// values out of messages.
func elide(message string) string {
	kind, rest, ok := strings.Cut(message, ": ")
	if !ok || len(rest) <= mostQuoted {
		return message
	}
	quoted := quotedValue(rest)
	rule := rest[quoted:]
	if quoted <= mostQuoted || rule != "" && !strings.HasPrefix(rule, ": ") {
		return message
	}
	return fmt.Sprintf("%s of %d bytes%s", kind, quoted, rule)
}

// quotedValue is how long the value is with which the text begins, 0 where it
// begins with none.
func quotedValue(text string) int {
	if quoted, err := strconv.QuotedPrefix(text); err == nil {
		return len(quoted)
	}
	value := json.NewDecoder(strings.NewReader(text))
	if err := value.Decode(&json.RawMessage{}); err != nil {
		return 0
	}
	return int(value.InputOffset())
}
