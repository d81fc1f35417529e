package process

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

type buffer struct {
	mu   sync.Mutex
	data bytes.Buffer
}

func (b *buffer) Write(data []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.Write(data)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.String()
}

func shell(t *testing.T, script string) (*Child, *buffer) {
	t.Helper()
	out := &buffer{}
	child, err := Start(Spec{Path: "/bin/sh", Args: []string{"-c", script}, Env: []string{"PATH=/usr/bin:/bin"}, Log: out})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { child.Stop(0) })
	return child, out
}

func TestStopAsksFirst(t *testing.T) {
	child, out := shell(t, "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done")
	waitFor(t, func() bool { return strings.Contains(out.String(), "up") })
	child.Stop(5 * time.Second)
	if out.String() != "up\nbye\n" || child.State().ExitCode() != 0 {
		t.Errorf("got %q, %v", out.String(), child.State())
	}
}

func TestStopKillsTheGroupOfWhoDoesNotListen(t *testing.T) {
	child, out := shell(t, "trap '' TERM; sleep 60 & echo up; wait; sleep 60")
	waitFor(t, func() bool { return strings.Contains(out.String(), "up") })
	began := time.Now()
	child.Stop(100 * time.Millisecond)
	if time.Since(began) > 3*time.Second {
		t.Error("it took too long")
	}
	if err := syscall.Kill(-child.PID(), 0); err == nil {
		waitFor(t, func() bool { return syscall.Kill(-child.PID(), 0) != nil })
	}
}

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for range 500 {
		if done() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("it did not happen")
}

func TestLogIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	log, err := OpenLog(path, 100)
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Repeat("x", 39) + "\n"
	for range 10 {
		_, _ = log.Write([]byte(line))
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, path + ".1"} {
		if info, err := os.Stat(name); err != nil || info.Size() > 100 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if Tail(path, 5) != "xxxx\n" || Tail(path+".none", 5) != "" {
		t.Error("wrong tail")
	}
}
