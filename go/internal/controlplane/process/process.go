// Package process starts child processes that cannot outlive this one.
package process

import (
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Spec says what to run.
type Spec struct {
	Path string
	Args []string
	Env  []string
	Dir  string
	Log  io.Writer
}

// Child is a started process.
type Child struct {
	cmd  *exec.Cmd
	done chan struct{}
}

var (
	spawnerOnce sync.Once
	spawns      chan func()
)

// onSpawner runs f on the one thread that starts children. The kernel sends the
// parent-death signal when the *thread* that forked ends, and Go ends threads
// as it likes, except a locked one whose goroutine lives on.
func onSpawner(f func()) {
	spawnerOnce.Do(func() {
		spawns = make(chan func())
		go func() {
			runtime.LockOSThread()
			for spawn := range spawns {
				spawn()
			}
		}()
	})
	done := make(chan struct{})
	spawns <- func() { defer close(done); f() }
	<-done
}

// Start runs the child in a process group of its own; it is killed when this
// process dies, however that happens.
func Start(spec Spec) (*Child, error) {
	cmd := exec.Command(spec.Path, spec.Args...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = spec.Env, spec.Dir, spec.Log, spec.Log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second
	var err error
	onSpawner(func() { err = cmd.Start() })
	if err != nil {
		return nil, err
	}
	child := &Child{cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(child.done)
	}()
	return child, nil
}

// PID is the child's process id.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Done is closed when the child has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// State tells how the child ended; call it after Done.
func (c *Child) State() *os.ProcessState { return c.cmd.ProcessState }

// Stop asks the child to end and kills its group when the grace is over.
func (c *Child) Stop(grace time.Duration) {
	if grace > 0 {
		_ = c.cmd.Process.Signal(syscall.SIGTERM)
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-c.done:
			return
		case <-timer.C:
		}
	}
	c.kill()
	<-c.done
}

// kill spares a group whose leader has been reaped: its id may be used anew.
func (c *Child) kill() {
	select {
	case <-c.done:
	default:
		_ = syscall.Kill(-c.PID(), syscall.SIGKILL)
	}
}
