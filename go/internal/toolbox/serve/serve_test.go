package serve

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"testing"

	"headrace.dev/headrace/go/internal/toolbox/fail"
	"headrace.dev/headrace/go/internal/toolbox/protocol"
)

type nothing struct{}

var calls = map[string]Call{
	"echo": Typed(func(_ context.Context, args map[string]string, body []byte) (any, []byte, error) {
		return args, body, nil
	}),
	"panic": Typed(func(context.Context, nothing, []byte) (any, []byte, error) { panic("oh") }),
	"hang": Typed(func(ctx context.Context, _ nothing, _ []byte) (any, []byte, error) {
		<-ctx.Done()
		return nil, nil, ctx.Err()
	}),
	"fail": Typed(func(context.Context, nothing, []byte) (any, []byte, error) {
		return nil, nil, fail.New(fail.BuildFailed, "no").In("a.yaml")
	}),
}

func frame(t *testing.T, request protocol.Request, body string) []byte {
	t.Helper()
	header, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	sizes := binary.BigEndian.AppendUint32(nil, uint32(len(header)))
	sizes = binary.BigEndian.AppendUint32(sizes, uint32(len(body)))
	return append(append(sizes, header...), body...)
}

type answer struct {
	ID     uint64            `json:"id"`
	Result map[string]string `json:"result"`
	Error  *fail.Error       `json:"error"`
	body   string
}

// exchange sends the requests and collects as many answers, by id.
func exchange(t *testing.T, frames ...[]byte) map[uint64]answer {
	t.Helper()
	in, send := io.Pipe()
	receive, out := io.Pipe()
	go func() { _ = New(calls, out).Run(in) }()
	go func() { _, _ = send.Write(bytes.Join(frames, nil)) }()
	defer func() { _ = send.Close() }()
	answers := map[uint64]answer{}
	for range frames {
		sizes := make([]byte, 8)
		if _, err := io.ReadFull(receive, sizes); err != nil {
			t.Fatal(err)
		}
		header := make([]byte, binary.BigEndian.Uint32(sizes))
		body := make([]byte, binary.BigEndian.Uint32(sizes[4:]))
		_, _ = io.ReadFull(receive, header)
		_, _ = io.ReadFull(receive, body)
		var got answer
		if err := json.Unmarshal(header, &got); err != nil {
			t.Fatal(err)
		}
		got.body = string(body)
		answers[got.ID] = got
	}
	return answers
}

func TestAnswers(t *testing.T) {
	answers := exchange(t,
		frame(t, protocol.Request{ID: 1, Call: "hang", TimeoutMS: 50}, ""),
		frame(t, protocol.Request{ID: 2, Call: "echo", Args: json.RawMessage(`{"a":"b"}`)}, "body"),
		frame(t, protocol.Request{ID: 3, Call: "panic"}, ""),
		frame(t, protocol.Request{ID: 4, Call: "none"}, ""),
		frame(t, protocol.Request{ID: 5, Call: "fail"}, ""),
		frame(t, protocol.Request{ID: 6, Call: "echo", Args: json.RawMessage(`[]`)}, ""),
	)
	if got := answers[2]; got.Result["a"] != "b" || got.body != "body" {
		t.Errorf("echo: %+v", got)
	}
	for id, code := range map[uint64]string{
		1: fail.Timeout, 3: fail.Panic, 4: fail.UnknownCall, 5: fail.BuildFailed, 6: fail.InvalidArgument,
	} {
		if got := answers[id].Error; got == nil || got.Code != code {
			t.Errorf("call %d: got %+v, want %s", id, got, code)
		}
	}
	if answers[5].Error.File != "a.yaml" {
		t.Error("the file is lost")
	}
}

func TestAFrameThatIsTooLargeEndsTheServer(t *testing.T) {
	sizes := binary.BigEndian.AppendUint32(nil, 10)
	sizes = binary.BigEndian.AppendUint32(sizes, 1<<31)
	if err := New(calls, io.Discard).Run(bytes.NewReader(sizes)); err == nil {
		t.Error("no error")
	}
}

func TestTheEndOfInputIsNoError(t *testing.T) {
	if err := New(calls, io.Discard).Run(bytes.NewReader(nil)); err != nil {
		t.Error(err)
	}
}
