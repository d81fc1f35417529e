// Package protocol reads and writes the frames between the toolbox and its
// parent: two big-endian lengths, a JSON header, a raw body.
package protocol

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"headrace.dev/headrace/go/internal/toolbox/fail"
)

const (
	// MaxHeader bounds a header, which holds arguments but no documents.
	MaxHeader = 64 << 20
	// MaxFrame bounds header and body together.
	MaxFrame = 256 << 20
)

// Request is a call; its answers come in any order.
type Request struct {
	ID        uint64          `json:"id"`
	Call      string          `json:"call"`
	Args      json.RawMessage `json:"args"`
	TimeoutMS int64           `json:"timeout_ms"`
	Body      []byte          `json:"-"`
}

// Answer holds either a result or an error.
type Answer struct {
	ID     uint64      `json:"id"`
	Result any         `json:"result,omitempty"`
	Error  *fail.Error `json:"error,omitempty"`
	Body   []byte      `json:"-"`
}

// Read returns the next request, or io.EOF when the parent has closed the pipe
// between two frames.
func Read(from io.Reader) (*Request, error) {
	var sizes [8]byte
	if _, err := io.ReadFull(from, sizes[:]); err != nil {
		return nil, err
	}
	headerSize, bodySize := binary.BigEndian.Uint32(sizes[:4]), binary.BigEndian.Uint32(sizes[4:])
	if headerSize > MaxHeader || uint64(headerSize)+uint64(bodySize) > MaxFrame {
		return nil, fmt.Errorf("frame of %d + %d bytes is too large", headerSize, bodySize)
	}
	data := make([]byte, headerSize+bodySize)
	if _, err := io.ReadFull(from, data); err != nil {
		return nil, fmt.Errorf("read frame: %w", err)
	}
	var request Request
	if err := json.Unmarshal(data[:headerSize], &request); err != nil {
		return nil, fmt.Errorf("read header: %w", err)
	}
	request.Body = data[headerSize:]
	return &request, nil
}

// Writer writes whole frames from several goroutines.
type Writer struct {
	mu sync.Mutex
	to io.Writer
}

// NewWriter writes to the given pipe.
func NewWriter(to io.Writer) *Writer { return &Writer{to: to} }

// Write sends an answer. One that is too large is replaced by an error.
func (w *Writer) Write(answer Answer) error {
	header, err := json.Marshal(answer)
	if err != nil {
		return w.Write(Answer{ID: answer.ID, Error: fail.New(fail.Internal, "encode answer: %v", err)})
	}
	if len(header) > MaxHeader || len(header)+len(answer.Body) > MaxFrame {
		return w.Write(Answer{ID: answer.ID, Error: fail.New(fail.LimitExceeded,
			"answer of %d bytes is larger than %d", len(header)+len(answer.Body), MaxFrame)})
	}
	frame := make([]byte, 8, 8+len(header))
	binary.BigEndian.PutUint32(frame[:4], uint32(len(header)))
	binary.BigEndian.PutUint32(frame[4:], uint32(len(answer.Body)))
	frame = append(frame, header...)
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := w.to.Write(frame); err != nil {
		return err
	}
	_, err = w.to.Write(answer.Body)
	return err
}
