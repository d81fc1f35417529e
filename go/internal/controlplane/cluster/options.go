// Package cluster runs the components of one local control plane as child
// processes: it makes what they need, starts them in order, keeps them running
// and stops them together.
package cluster

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"headrace.dev/headrace/go/internal/controlplane/component"
)

// Options are what the user chose.
type Options struct {
	DataDir   string
	Ephemeral bool
	Nodes     int
	ReadyFile string
	AuditLog  string
	WaitFor   string
	Timeout   time.Duration
	LogLimit  int64
	// StopOnEOF ends the cluster when standard input closes, that is, when the
	// program that started it is gone.
	StopOnEOF bool
	Extra     extraArgs
	Env       []string
}

// What `start` waits for before it says it is ready.
const (
	// WaitAPI waits until the API server answers /readyz.
	WaitAPI = "api"
	// WaitNodes also waits for ready nodes and the default service account, so
	// that a pod created at once is admitted and scheduled.
	WaitNodes = "nodes"
)

// extraArgs collects --component-arg NAME=FLAG.
type extraArgs map[string][]string

func (e extraArgs) String() string { return "" }

func (e extraArgs) Set(value string) error {
	name, arg, found := strings.Cut(value, "=")
	if !found || !strings.HasPrefix(arg, "-") {
		return errors.New("want COMPONENT=--flag=value")
	}
	if _, known := component.Lookup(name); !known {
		return fmt.Errorf("no component %q; there are %s", name, strings.Join(component.Names(), ", "))
	}
	e[name] = append(e[name], arg)
	return nil
}

// ParseOptions reads the flags of `start`.
func ParseOptions(args []string, usage io.Writer) (Options, error) {
	o := Options{Extra: extraArgs{}}
	flags := flag.NewFlagSet("start", flag.ContinueOnError)
	flags.SetOutput(usage)
	flags.StringVar(&o.DataDir, "data-dir", "", "folder of the cluster's data; kept between runs")
	flags.BoolVar(&o.Ephemeral, "ephemeral", false, "no fsync, and all data is removed at the end")
	flags.IntVar(&o.Nodes, "nodes", 2, "number of simulated nodes")
	flags.StringVar(&o.ReadyFile, "ready-file", "", "also write the line that tells readiness to this file")
	flags.StringVar(&o.AuditLog, "audit-log", "", "log the metadata of every request to this file")
	flags.StringVar(&o.WaitFor, "wait", WaitNodes, "when to tell readiness: api, or nodes")
	flags.DurationVar(&o.Timeout, "timeout", 2*time.Minute, "how long readiness may take")
	flags.Int64Var(&o.LogLimit, "log-limit", 8<<20, "bytes at which a component's log is rotated; one old log is kept")
	flags.BoolVar(&o.StopOnEOF, "stop-on-eof", false, "stop when standard input closes")
	flags.Var(o.Extra, "component-arg", "a further flag for a component, as kube-apiserver=--flag=value; repeatable")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	return o, o.check(flags.Args())
}

func (o Options) check(rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q", rest[0])
	case o.DataDir == "" && !o.Ephemeral:
		return errors.New("--data-dir is required, unless --ephemeral")
	case o.Nodes < 0 || o.Nodes > 1000:
		return errors.New("--nodes must be between 0 and 1000")
	case o.WaitFor != WaitAPI && o.WaitFor != WaitNodes:
		return errors.New("--wait must be api or nodes")
	}
	return nil
}
