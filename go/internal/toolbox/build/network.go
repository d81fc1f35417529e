package build

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
)

// errRemote is what a remote base meets in a process without network.
var errRemote = errors.New("remote bases are disabled")

// gate is the transport of every HTTP request in this process. kustomize makes
// its own clients, but they all share the default transport.
type gate struct {
	through http.RoundTripper
	// open lets the running build through; there is one at a time.
	open atomic.Bool
	used atomic.Bool
}

var remote = &gate{}

// RoundTrip implements http.RoundTripper.
func (g *gate) RoundTrip(request *http.Request) (*http.Response, error) {
	g.used.Store(true)
	if g.through == nil || !g.open.Load() {
		return nil, errRemote
	}
	return g.through.RoundTrip(request)
}

// gitPath is where git is looked for when a build may use it.
var gitPath string

// DenyNetwork shuts both ways that kustomize has to a remote base, once, at the
// start of the process: HTTP, and the git program.
func DenyNetwork() {
	http.DefaultTransport = remote
	_ = os.Setenv("PATH", "")
}

// GuardNetwork opens those ways only for builds that may use them, and lets such
// a build read what it cloned, below the folder.
func GuardNetwork(folder string) error {
	resolved, err := filepath.EvalSymlinks(folder)
	if err != nil {
		return err
	}
	remote.through = http.DefaultTransport
	scratchFolder, gitPath = resolved, os.Getenv("PATH")
	_ = os.Setenv("TMPDIR", resolved)
	// Without this a file:// base would clone any repository of the machine.
	_ = os.Setenv("GIT_ALLOW_PROTOCOL", "https:http:ssh")
	DenyNetwork()
	return nil
}

// scratchFolder is empty in a process without network.
var scratchFolder string

// openNetwork is called with the build lock held.
func openNetwork(allowed bool) (closeNetwork func()) {
	remote.used.Store(false)
	if !allowed || scratchFolder == "" {
		return func() {}
	}
	remote.open.Store(true)
	_ = os.Setenv("PATH", gitPath)
	return func() {
		remote.open.Store(false)
		_ = os.Setenv("PATH", "")
	}
}

// triedRemote tells whether the error, or what kustomize made of it, comes from
// the shut gate. kustomize keeps only the text of errors.
func triedRemote(err error) bool {
	text := err.Error()
	return strings.Contains(text, errRemote.Error()) || strings.Contains(text, "no 'git' program on path")
}
