package cluster

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"headrace.dev/headrace/go/internal/controlplane/pki"
)

// layout names the files below the data folder.
type layout struct {
	root string
	pki  pki.Dir
	lock *os.File
	// remove says that the whole folder goes at the end.
	remove bool
}

func (l *layout) path(parts ...string) string {
	return filepath.Join(append([]string{l.root}, parts...)...)
}

func (l *layout) log(name string) string { return l.path("logs", name+".log") }

// ErrInUse says that another supervisor serves the data folder.
var ErrInUse = errors.New("another headrace-controlplane uses this data folder")

// prepare makes the folder, takes its lock and makes the certificates.
func prepare(o Options) (*layout, error) {
	l := &layout{root: o.DataDir}
	if err := l.makeRoot(o); err != nil {
		return nil, err
	}
	if err := l.acquire(); err != nil {
		return nil, err
	}
	for _, dir := range []string{"logs", "etcd", "run"} {
		if err := os.MkdirAll(l.path(dir), 0o700); err != nil {
			return nil, err
		}
	}
	made, err := pki.Ensure(l.path("pki"))
	l.pki = made
	return l, err
}

// makeRoot refuses to own, and so later to remove, a folder with other content.
func (l *layout) makeRoot(o Options) (err error) {
	if l.root == "" {
		l.root, err = os.MkdirTemp("", "headrace-cluster-")
		l.remove = true
		return err
	}
	if l.root, err = filepath.Abs(l.root); err != nil {
		return err
	}
	if err := os.MkdirAll(l.root, 0o700); err != nil {
		return err
	}
	if !o.Ephemeral {
		return nil
	}
	entries, err := os.ReadDir(l.root)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("--ephemeral removes its data folder at the end, and %s is not empty", l.root)
	}
	l.remove = true
	return nil
}

// acquire holds a lock that the kernel releases with this process. It is a POSIX
// lock because anybody may ask who holds one: no file with a process id goes stale.
func (l *layout) acquire() error {
	file, err := os.OpenFile(l.path("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	whole := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart}
	if err := syscall.FcntlFlock(file.Fd(), syscall.F_SETLK, &whole); err != nil {
		_ = file.Close()
		return fmt.Errorf("%w: %s", ErrInUse, l.root)
	}
	l.lock = file
	return nil
}

// release gives the folder back, or removes it.
func (l *layout) release() {
	if l.remove {
		_ = os.RemoveAll(l.root)
	}
	if l.lock != nil {
		_ = l.lock.Close()
	}
}

// writeFile replaces a file as a whole, so that nobody reads half of it.
func writeFile(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	if _, err := tmp.Write(data); err != nil {
		_ = tmp.Close()
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
