package engine

import (
	"context"
	"net"
	"sync"
	"time"
)

// counted counts the connections of a listener.
type counted struct {
	net.Listener

	mu   sync.Mutex
	open int
	last time.Time
}

// Accept implements net.Listener.
func (c *counted) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c.count(1)
	return &countedConn{Conn: conn, from: c}, nil
}

func (c *counted) count(by int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open += by
	c.last = time.Now()
}

// watch calls end once nobody has been connected for that long.
func (c *counted) watch(ctx context.Context, idle time.Duration, end func()) {
	c.count(0)
	for {
		c.mu.Lock()
		left := idle - time.Since(c.last)
		if c.open > 0 {
			left = idle
		}
		c.mu.Unlock()
		if left <= 0 {
			end()
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(left):
		}
	}
}

type countedConn struct {
	net.Conn
	from *counted
	once sync.Once
}

// Close implements net.Conn.
func (c *countedConn) Close() error {
	c.once.Do(func() { c.from.count(-1) })
	return c.Conn.Close()
}
