package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"headrace.dev/headrace/go/internal/controlplane/component"
	"headrace.dev/headrace/go/internal/controlplane/process"
)

// Ready is the line that `start` prints when the cluster can be used.
type Ready struct {
	Ready      bool           `json:"ready"`
	Kubeconfig string         `json:"kubeconfig"`
	Server     string         `json:"server"`
	DataDir    string         `json:"data_dir"`
	Supervisor int            `json:"supervisor"`
	PIDs       map[string]int `json:"pids"`
	Seconds    float64        `json:"seconds"`
}

// supervisor holds one running cluster.
type supervisor struct {
	options Options
	layout  *layout
	ports   ports
	api     *api
	members []*member
	binary  string
	began   time.Time

	stopped context.CancelFunc
	keepers sync.WaitGroup
	mu      sync.Mutex
	line    *Ready
}

// Run serves the cluster until the context ends. It prints one line to `out`
// when the cluster is ready.
func Run(ctx context.Context, o Options, out io.Writer) error {
	s, err := newSupervisor(o)
	if err != nil {
		return err
	}
	defer s.layout.release()
	defer s.stop()
	if err := s.start(ctx); err != nil {
		s.layout.remove = s.layout.remove && ctx.Err() != nil
		return err
	}
	if err := s.announce(out); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func newSupervisor(o Options) (*supervisor, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	l, err := prepare(o)
	if err != nil {
		return nil, err
	}
	s := &supervisor{options: o, layout: l, binary: binary, began: time.Now()}
	if err := s.configure(); err != nil {
		l.release()
		return nil, err
	}
	return s, nil
}

func (s *supervisor) configure() (err error) {
	if s.ports, err = loadPorts(s.layout); err != nil {
		return err
	}
	if err = writeFiles(s.layout, s.ports); err != nil {
		return err
	}
	s.options.Env = environment(s.layout, s.options.Env)
	s.members = arguments(s.layout, s.ports, s.options)
	s.api, err = newAPI(s.layout, s.ports)
	return err
}

// start brings the members up. etcd and the API server begin together, since the
// latter needs a second before it first asks the former.
func (s *supervisor) start(ctx context.Context) error {
	keeping, cancel := context.WithCancel(context.Background())
	s.stopped = cancel
	starting, done := context.WithTimeoutCause(ctx, s.options.Timeout, errors.New("the control plane was not ready in time"))
	defer done()
	starting, fail := context.WithCancelCause(starting)
	defer fail(nil)
	go s.watchHopeless(starting, fail)
	if err := s.launch(keeping, component.Etcd, component.APIServer); err != nil {
		return err
	}
	if err := poll(starting, 25*time.Millisecond, s.api.ready); err != nil {
		return s.explain(err)
	}
	if err := s.launch(keeping, component.ControllerManager, component.Scheduler, component.Kwok); err != nil {
		return err
	}
	if err := populate(starting, s.api, s.options.Nodes); err != nil {
		return s.explain(err)
	}
	if s.options.WaitFor == WaitAPI {
		return nil
	}
	return s.explain(waitUsable(starting, s.api, s.options.Nodes))
}

// watchHopeless ends the start when a member only ever crashes.
func (s *supervisor) watchHopeless(ctx context.Context, fail context.CancelCauseFunc) {
	_ = poll(ctx, 100*time.Millisecond, func(context.Context) bool {
		for _, m := range s.members {
			if m.crashes.Load() >= hopeless {
				fail(fmt.Errorf("%s does not start", m.name))
				return true
			}
		}
		return false
	})
}

// launch starts members and keeps them running.
func (s *supervisor) launch(ctx context.Context, names ...string) error {
	for _, name := range names {
		m := s.member(name)
		start := func() error { return m.start(s.binary, s.layout, s.options) }
		if err := start(); err != nil {
			return err
		}
		s.keepers.Add(1)
		go func() {
			defer s.keepers.Done()
			m.keep(ctx, start, s.update)
		}()
	}
	return nil
}

func (s *supervisor) member(name string) *member {
	for _, m := range s.members {
		if m.name == name {
			return m
		}
	}
	panic("no member " + name)
}

// explain adds the last lines of the log of the first member that crashed, or
// of the API server.
func (s *supervisor) explain(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	suspect := component.APIServer
	for _, m := range s.members {
		if m.crashes.Load() > 0 {
			suspect = m.name
			break
		}
	}
	return fmt.Errorf("%w; the log of %s (%s) ends:\n%s", err, suspect, s.layout.log(suspect),
		process.Tail(s.layout.log(suspect), 2000))
}

// announce tells readiness on `out` and in files.
func (s *supervisor) announce(out io.Writer) error {
	s.mu.Lock()
	s.line = &Ready{
		Ready: true, Kubeconfig: s.layout.path("kubeconfig"), Server: server(s.ports), DataDir: s.layout.root,
		Supervisor: os.Getpid(), Seconds: time.Since(s.began).Seconds(),
	}
	s.mu.Unlock()
	data, err := s.write()
	if err != nil {
		return err
	}
	_, err = out.Write(data)
	return err
}

// update writes the files anew after a restart, for the process ids in them.
func (s *supervisor) update() { _, _ = s.write() }

func (s *supervisor) write() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.line == nil {
		return nil, nil
	}
	s.line.PIDs = map[string]int{}
	for _, m := range s.members {
		if child := m.current(); child != nil {
			s.line.PIDs[m.name] = child.PID()
		}
	}
	data, err := json.Marshal(s.line)
	if err != nil {
		return nil, err
	}
	data = append(data, '\n')
	for _, path := range []string{s.layout.path("ready.json"), s.options.ReadyFile} {
		if path == "" {
			continue
		}
		if err := writeFile(path, data); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// stop ends the members, those that write first and the database last. Nothing
// of an ephemeral cluster is worth a grace.
func (s *supervisor) stop() {
	if s.stopped == nil {
		return
	}
	s.stopped()
	s.keepers.Wait()
	s.stopAll(s.members[2:])
	s.stopAll(s.members[1:2])
	s.stopAll(s.members[:1])
	for _, path := range []string{s.layout.path("ready.json"), s.options.ReadyFile} {
		if path != "" {
			_ = os.Remove(path)
		}
	}
}

func (s *supervisor) stopAll(members []*member) {
	var stopping sync.WaitGroup
	for _, m := range members {
		stopping.Add(1)
		go func() {
			defer stopping.Done()
			grace := m.grace
			if s.options.Ephemeral {
				grace = 0
			}
			m.stop(grace)
		}()
	}
	stopping.Wait()
}
