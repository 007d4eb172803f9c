package testkit

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// FreePort is a port of loopback that nobody listens on. It is below those that
// Linux gives to connections (32768 and above), any of which may take it until it
// is used.
func FreePort() int {
	for {
		port := 20000 + rand.N(10000)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return port
		}
	}
}
