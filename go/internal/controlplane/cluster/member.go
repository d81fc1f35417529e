package cluster

import (
	"context"
	"fmt"
	"log"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"headrace.dev/headrace/go/internal/controlplane/process"
)

const (
	etcdGrace = 5 * time.Second
	// The API server answers SIGTERM by waiting for every open watch. It keeps
	// nothing itself: what it acknowledged is in etcd.
	apiServerGrace  = 500 * time.Millisecond
	controllerGrace = 500 * time.Millisecond

	firstBackoff = 200 * time.Millisecond
	lastBackoff  = 10 * time.Second
	// hopeless is how often a component may crash before the cluster was ready.
	hopeless = 4
	// stable is how long a component must have run for its next crash to count
	// as the first.
	stable = 30 * time.Second
)

// member is one component under supervision.
type member struct {
	name  string
	args  []string
	grace time.Duration

	mu      sync.Mutex
	child   *process.Child
	log     *process.LogFile
	crashes atomic.Int32
}

// start runs the component once.
func (m *member) start(binary string, l *layout, o Options) error {
	if m.log == nil {
		opened, err := process.OpenLog(l.log(m.name), o.LogLimit)
		if err != nil {
			return err
		}
		m.log = opened
	}
	child, err := process.Start(process.Spec{
		Path: binary, Args: append([]string{m.name}, m.args...), Env: o.Env, Dir: l.path("run"), Log: m.log,
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", m.name, err)
	}
	m.mu.Lock()
	m.child = child
	m.mu.Unlock()
	return nil
}

func (m *member) current() *process.Child {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.child
}

// keep restarts the component each time it ends, until the context does.
func (m *member) keep(ctx context.Context, restart func() error, changed func()) {
	backoff := firstBackoff
	for {
		began := time.Now()
		child := m.current()
		select {
		case <-ctx.Done():
			return
		case <-child.Done():
		}
		m.crashes.Add(1)
		if time.Since(began) > stable {
			backoff = firstBackoff
		}
		log.Printf("%s ended (%v); restart in %v", m.name, child.State(), backoff)
		if !sleep(ctx, backoff) {
			return
		}
		backoff = min(2*backoff, lastBackoff)
		if err := restart(); err != nil {
			log.Printf("%v", err)
			continue
		}
		changed()
	}
}

// stop ends the component; it is called when keep no longer runs.
func (m *member) stop(grace time.Duration) {
	if child := m.current(); child != nil {
		child.Stop(grace)
	}
	if m.log != nil {
		_ = m.log.Close()
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// environment holds nothing of the user's: no proxy, no credentials.
func environment(l *layout, extra []string) []string {
	env := []string{"PATH=/usr/bin:/bin", "HOME=" + l.path("run"), "TMPDIR=" + os.TempDir()}
	return append(env, extra...)
}
