// Probe is the program that the tests' builds run: it stands in for a shell.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch args[0] {
	case "write": // write FILE TEXT
		return os.WriteFile(args[1], []byte(args[2]), 0o644)
	case "secret": // secret FILE: fails unless it is there
		_, err := os.ReadFile(args[1])
		return err
	case "sleep":
		time.Sleep(time.Hour)
	case "refused": // refused ADDRESS…: fails where one can be reached
		for _, address := range args[1:] {
			if conn, err := net.DialTimeout("tcp", address, 2*time.Second); err == nil {
				conn.Close()
				return fmt.Errorf("%s was reached", address)
			}
			c := &http.Client{Timeout: 5 * time.Second}
			if res, err := c.Get("http://" + address + "/"); err == nil {
				res.Body.Close()
				if res.StatusCode < 400 {
					return fmt.Errorf("%s was reached by the proxy: %s", address, res.Status)
				}
			}
		}
	case "get": // get URL: fails unless it answers 200
		res, err := (&http.Client{Timeout: 10 * time.Second}).Get(args[1])
		if err != nil {
			return err
		}
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", args[1], res.Status)
		}
	}
	return nil
}
