package process

import (
	"os"
	"sync"
)

// LogFile is a log of bounded size: when full it becomes NAME.1, replacing the
// one before.
type LogFile struct {
	path  string
	limit int64

	mu   sync.Mutex
	file *os.File
	size int64
}

// OpenLog continues the log at path, or begins it.
func OpenLog(path string, limit int64) (*LogFile, error) {
	l := &LogFile{path: path, limit: limit}
	return l, l.open()
}

func (l *LogFile) open() error {
	file, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		_ = file.Close()
		return err
	}
	l.file, l.size = file, info.Size()
	return nil
}

// Write never fails its caller: a component must not stop for its log's sake.
func (l *LogFile) Write(data []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size > 0 && l.size+int64(len(data)) > l.limit {
		l.rotate()
	}
	if l.file != nil {
		n, _ := l.file.Write(data)
		l.size += int64(n)
	}
	return len(data), nil
}

func (l *LogFile) rotate() {
	if l.file != nil {
		_ = l.file.Close()
		l.file = nil
	}
	_ = os.Rename(l.path, l.path+".1")
	_ = l.open()
}

// Close ends the log.
func (l *LogFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	file := l.file
	l.file = nil
	return file.Close()
}

// Tail returns the last bytes of a log, for an error message.
func Tail(path string, limit int64) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return ""
	}
	data := make([]byte, min(limit, info.Size()))
	_, _ = file.ReadAt(data, info.Size()-int64(len(data)))
	return string(data)
}
