package render

import (
	"reflect"
	"sync"
	"text/template"
	"time"

	"github.com/Masterminds/sprig/v3"
)

// impureFuncs are the template functions whose result is another one each time
// they are called: random, of the clock, or of the cluster. "env", "expandenv"
// and "getHostByName" are not there, or return nothing, in helm's engine.
var impureFuncs = []string{
	"randAlphaNum", "randAlpha", "randAscii", "randNumeric", "randBytes", "randInt", "shuffle", "uuidv4",
	"genPrivateKey", "genCA", "genCAWithKey", "genSelfSignedCert", "genSelfSignedCertWithKey",
	"genSignedCert", "genSignedCertWithKey", "htpasswd", "bcrypt", "encryptAES",
	"now", "ago", "date", "dateInZone", "date_in_zone", "htmlDate", "htmlDateInZone", "durationRound",
}

// readsClock says whether a call of a function that formats a time looks at
// the clock: those of dates do where they are given none, durationRound where
// it is given one. Every other function of impureFuncs always is impure.
func readsClock(name string, args []reflect.Value) bool {
	given := false
	for _, arg := range args {
		switch arg.Interface().(type) {
		case time.Time, *time.Time, int, int32, int64:
			given = true
		}
	}
	switch name {
	case "date", "dateInZone", "date_in_zone", "htmlDate", "htmlDateInZone":
		return !given
	case "durationRound":
		_, isTime := args[0].Interface().(time.Time)
		return isTime
	default:
		return true
	}
}

// impureCalls notes the impure functions that templates really called.
type impureCalls struct {
	mu    sync.Mutex
	names []string
}

func (c *impureCalls) note(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.names = append(c.names, name)
}

// first is the name of the function that was called first, or "".
func (c *impureCalls) first() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.names) == 0 {
		return ""
	}
	return c.names[0]
}

// funcs wraps the functions to note their calls.
func (c *impureCalls) funcs() template.FuncMap {
	all := sprig.TxtFuncMap()
	wrapped := template.FuncMap{
		// As in helm template, which has no cluster.
		"lookup": func(string, string, string, string) (map[string]any, error) {
			c.note("lookup")
			return map[string]any{}, nil
		},
	}
	for _, name := range impureFuncs {
		if f, ok := all[name]; ok {
			wrapped[name] = c.wrap(name, reflect.ValueOf(f))
		}
	}
	return wrapped
}

func (c *impureCalls) wrap(name string, f reflect.Value) any {
	return reflect.MakeFunc(f.Type(), func(args []reflect.Value) []reflect.Value {
		if readsClock(name, args) {
			c.note(name)
		}
		if f.Type().IsVariadic() {
			return f.CallSlice(args)
		}
		return f.Call(args)
	}).Interface()
}
