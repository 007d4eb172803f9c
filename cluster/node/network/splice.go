package network

import (
	"io"
	"net"
	"sync"
)

// splice carries bytes between two connections until both directions have
// ended, passing the end of each on, and closes them.
func splice(a, b *net.TCPConn) {
	defer a.Close()
	defer b.Close()
	var directions sync.WaitGroup
	carry := func(to, from *net.TCPConn) {
		// On Linux this is splice(2): the bytes stay in the kernel.
		if _, err := io.Copy(to, from); err != nil {
			// A reset cannot be passed on half-way: end both.
			_ = to.SetLinger(0)
			to.Close()
			from.Close()
			return
		}
		_ = to.CloseWrite()
	}
	directions.Go(func() { carry(a, b) })
	directions.Go(func() { carry(b, a) })
	directions.Wait()
}
