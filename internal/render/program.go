package render

import (
	"context"
	"fmt"
)

// Program is something else than rendering that workers run, for the same
// reason: it works on what somebody else has written. It makes bytes of bytes,
// and touches nothing else.
type Program struct {
	Name string
	Run  func(ctx context.Context, input []byte) ([]byte, error)
}

// callMessage asks for a program to be run.
type callMessage struct {
	Program string
	Input   []byte
}

// returnMessage is what a program has made, or why it has not.
type returnMessage struct {
	Output []byte
	Failed string
}

// Call runs a program in a worker, one that ServeWorker was given there, within
// the limits of a render. Errors: an *Error (LimitExceeded) where the program
// took too much, ErrClosed, those of ctx, and the program's, by its text.
func (p *Pool) Call(ctx context.Context, program string, input []byte) (output []byte, err error) {
	onErr := p.on(ctx, func(w *process) (healthy bool) {
		output, err, healthy = p.call(ctx, w, &callMessage{program, input})
		return healthy
	})
	if onErr != nil {
		return nil, onErr
	}
	return output, err
}

func (p *Pool) call(ctx context.Context, w *process, m *callMessage) (output []byte, err error, healthy bool) {
	callCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	guard := p.watch(callCtx, cancel, w)
	var answer toPool
	if err = w.conn.send(&toWorker{Call: m}); err == nil {
		err = w.conn.receive(&answer)
	}
	reason := guard.stop()
	w.jobs++
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err(), false
	case reason != nil:
		return nil, reason, false
	case err != nil:
		return nil, p.died(w, err), false
	case answer.Return == nil:
		return nil, fmt.Errorf("run %s in a worker: it returned nothing", m.Program), false
	case answer.Return.Failed != "":
		return nil, fmt.Errorf("run %s in a worker: %s", m.Program, answer.Return.Failed), true
	}
	return answer.Return.Output, nil, true
}

// run runs a program, in the worker.
func (m *callMessage) run(ctx context.Context, programs []Program) *returnMessage {
	for _, p := range programs {
		if p.Name != m.Program {
			continue
		}
		output, err := p.Run(ctx, m.Input)
		if err != nil {
			return &returnMessage{Failed: err.Error()}
		}
		return &returnMessage{Output: output}
	}
	return &returnMessage{Failed: "the worker has no such program"}
}
