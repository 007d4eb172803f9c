package identity

import (
	"net"
	"sync"
	"testing"
)

// proxy passes TCP connections on to an address, and on demand hangs: bytes of
// clients go nowhere, and no connection ends, as when a machine has gone.
type proxy struct {
	net.Listener
	to string

	mu      sync.Mutex
	open    *sync.Cond
	hanging bool
	conns   []net.Conn
}

func startProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l, to: to}
	p.open = sync.NewCond(&p.mu)
	t.Cleanup(p.stop)
	go p.serve()
	return p
}

// hang begins or ends the hanging.
func (p *proxy) hang(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hanging = on
	p.open.Broadcast()
}

func (p *proxy) stop() {
	p.Close()
	p.hang(false)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
}

func (p *proxy) serve() {
	for {
		client, err := p.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.to)
		if err != nil {
			client.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, client, server)
		p.mu.Unlock()
		go p.copy(server, client)
		go p.copy(client, server)
	}
}

func (p *proxy) copy(to, from net.Conn) {
	defer to.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		p.mu.Lock()
		for p.hanging {
			p.open.Wait()
		}
		p.mu.Unlock()
		if _, writeErr := to.Write(buffer[:n]); writeErr != nil || err != nil {
			return
		}
	}
}
