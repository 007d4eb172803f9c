// Command pause is the process that holds a pod's namespaces open, in place of registry.k8s.io/pause.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

// In a pod that shares one PID namespace this is PID 1 and inherits orphans: ignoring SIGCHLD has the kernel
// reap them (see wait(2)). SIGTERM and SIGINT end the pod at once.
func main() {
	signal.Ignore(syscall.SIGCHLD)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
}
