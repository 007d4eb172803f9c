// Command probe is the program that the tests' pods run: a web server, and what
// a shell would be used for.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		args = []string{"serve"}
	}
	verbs := map[string]func([]string) error{
		"serve": serve, "get": get, "lookup": lookup, "read": read, "write": write, "eat": eat, "wait": wait,
	}
	verb, ok := verbs[args[0]]
	if !ok {
		return fmt.Errorf("no verb %q", args[0])
	}
	return verb(args[1:])
}

// serve answers on port 8080 until it is told to end.
func serve([]string) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, name, "answers", r.URL.Path)
	})
	http.HandleFunc("/fail", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
	})
	fmt.Println("serving as", name)
	server := &http.Server{Addr: ":8080", ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	select {
	case err := <-ended:
		return err
	case <-stop:
		fmt.Println("told to end")
		return nil
	}
}

func get(args []string) error {
	client := http.Client{Timeout: 10 * time.Second}
	response, err := client.Get(args[0])
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(os.Stdout, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", response.Status)
	}
	return nil
}

func lookup(args []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(ctx, args[0])
	if err != nil {
		return err
	}
	fmt.Println(strings.Join(addresses, " "))
	return nil
}

func read(args []string) error {
	content, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(content)
	return err
}

func write(args []string) error {
	return os.WriteFile(args[0], []byte(args[1]), 0o644)
}

// eat takes and touches so many MiB of memory.
func eat(args []string) error {
	mebibytes, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	memory := make([]byte, mebibytes<<20)
	for i := 0; i < len(memory); i += 4096 {
		memory[i] = 1
	}
	fmt.Println("ate", len(memory))
	return nil
}

// wait ends when it is told to.
func wait([]string) error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
	return nil
}
