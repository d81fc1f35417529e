// Package serve answers calls that arrive on a pipe, many at a time.
package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"headrace.dev/headrace/go/internal/toolbox/fail"
	"headrace.dev/headrace/go/internal/toolbox/protocol"
)

// Call does one kind of work. Args are the header's arguments; the returned
// result goes into the answer's header, the body behind it.
type Call func(ctx context.Context, args json.RawMessage, body []byte) (result any, answer []byte, err error)

// Typed makes a Call of a function with typed arguments.
func Typed[A any](work func(ctx context.Context, args A, body []byte) (any, []byte, error)) Call {
	return func(ctx context.Context, raw json.RawMessage, body []byte) (any, []byte, error) {
		var args A
		if len(raw) > 0 {
			if err := json.Unmarshal(raw, &args); err != nil {
				return nil, nil, fail.New(fail.InvalidArgument, "read arguments: %v", err)
			}
		}
		return work(ctx, args, body)
	}
}

// Server holds the calls by name.
type Server struct {
	calls map[string]Call
	out   *protocol.Writer
}

// New makes a server that answers on the given pipe.
func New(calls map[string]Call, out io.Writer) *Server {
	return &Server{calls: calls, out: protocol.NewWriter(out)}
}

// Run serves until the parent closes its end. Calls that are still running then
// have nobody left to answer to.
func (s *Server) Run(in io.Reader) error {
	for {
		request, err := protocol.Read(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		go s.answer(request)
	}
}

// answer replies exactly once: with the call's own end, or when its time is up,
// whichever comes first. Work that cannot be stopped goes on unheard; the parent
// replaces this process then.
func (s *Server) answer(request *protocol.Request) {
	ctx, cancel := context.WithCancel(context.Background())
	if request.TimeoutMS > 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(request.TimeoutMS)*time.Millisecond)
	}
	defer cancel()
	var once sync.Once
	reply := func(answer protocol.Answer) {
		once.Do(func() { s.send(answer) })
	}
	stop := context.AfterFunc(ctx, func() {
		reply(protocol.Answer{ID: request.ID, Error: timeout(request)})
	})
	answer := s.run(ctx, request)
	if stop() {
		reply(answer)
	}
}

func timeout(request *protocol.Request) *fail.Error {
	return fail.New(fail.Timeout, "%s took longer than %v", request.Call, time.Duration(request.TimeoutMS)*time.Millisecond)
}

func (s *Server) send(answer protocol.Answer) {
	if err := s.out.Write(answer); err != nil {
		fmt.Fprintln(os.Stderr, "headrace-toolbox: write answer:", err)
		os.Exit(1)
	}
}

// run turns a panic into an error of this call alone.
func (s *Server) run(ctx context.Context, request *protocol.Request) (answer protocol.Answer) {
	answer.ID = request.ID
	defer func() {
		if cause := recover(); cause != nil {
			fmt.Fprintf(os.Stderr, "headrace-toolbox: panic in %s: %v\n%s", request.Call, cause, debug.Stack())
			answer = protocol.Answer{ID: request.ID, Error: fail.New(fail.Panic, "panic in %s: %v", request.Call, cause)}
		}
	}()
	call, known := s.calls[request.Call]
	if !known {
		answer.Error = fail.New(fail.UnknownCall, "no call %q", request.Call)
		return answer
	}
	result, body, err := call(ctx, request.Args, request.Body)
	switch {
	case err != nil && ctx.Err() != nil:
		answer.Error = timeout(request)
	case err != nil:
		answer.Error = fail.From(err, fail.Internal)
	default:
		answer.Result, answer.Body = result, body
	}
	return answer
}
