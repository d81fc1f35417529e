package cluster

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"headrace.dev/headrace/go/internal/controlplane/pki"
)

func TestParseOptions(t *testing.T) {
	cases := map[string]struct {
		args []string
		fine bool
	}{
		"least":             {[]string{"--data-dir=x"}, true},
		"ephemeral":         {[]string{"--ephemeral"}, true},
		"component":         {[]string{"--data-dir=x", "--component-arg", "etcd=--a=b", "--component-arg=etcd=--c"}, true},
		"no directory":      {nil, false},
		"too many nodes":    {[]string{"--data-dir=x", "--nodes=5000"}, false},
		"unknown component": {[]string{"--data-dir=x", "--component-arg=kubelet=--a"}, false},
		"no flag":           {[]string{"--data-dir=x", "--component-arg=etcd=a"}, false},
		"unknown wait":      {[]string{"--data-dir=x", "--wait=never"}, false},
		"argument":          {[]string{"--data-dir=x", "y"}, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			options, err := ParseOptions(c.args, io.Discard)
			if (err == nil) != c.fine {
				t.Errorf("got %v, want fine: %v", err, c.fine)
			}
			if name == "component" && len(options.Extra["etcd"]) != 2 {
				t.Errorf("got %v", options.Extra)
			}
		})
	}
}

func TestPortsAreKept(t *testing.T) {
	l := &layout{root: t.TempDir()}
	first, err := loadPorts(l)
	if err != nil {
		t.Fatal(err)
	}
	second, err := loadPorts(l)
	if err != nil || first != second {
		t.Errorf("got %v, then %v, %v", first, second, err)
	}
}

func TestAKeptPortThatIsTakenIsAnError(t *testing.T) {
	l := &layout{root: t.TempDir()}
	kept, err := loadPorts(l)
	if err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("tcp4", address(kept.Etcd))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	if _, err := loadPorts(l); err == nil || !strings.Contains(err.Error(), "kept for etcd, is taken") {
		t.Errorf("got %v", err)
	}
}

var listens = regexp.MustCompile(`^--(bind-address|advertise-address|listen-.*|.*advertise-.*-urls|etcd-servers|server-address)=(.*)$`)

func TestEverythingListensOnLoopback(t *testing.T) {
	l := &layout{root: "/data", pki: pki.Dir("/data/pki")}
	for _, m := range arguments(l, ports{1, 2, 3}, Options{AuditLog: "/audit", Ephemeral: true}) {
		for _, arg := range m.args {
			match := listens.FindStringSubmatch(arg)
			if match != nil && match[2] != "" && !strings.Contains(match[2], "127.0.0.1") {
				t.Errorf("%s: %s", m.name, arg)
			}
		}
	}
}

func TestEphemeralWantsAnEmptyFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := prepare(Options{DataDir: dir, Ephemeral: true}); err == nil {
		t.Error("a folder with content was accepted")
	}
	l, err := prepare(Options{DataDir: filepath.Join(dir, "new"), Ephemeral: true})
	if err != nil {
		t.Fatal(err)
	}
	l.release()
	if _, err := os.Stat(filepath.Join(dir, "new")); err == nil {
		t.Error("the folder is still there")
	}
}

func TestFilesWithCredentialsArePrivate(t *testing.T) {
	l, err := prepare(Options{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer l.release()
	if err := writeFiles(l, ports{1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"kubeconfig", "run/kwok.kubeconfig"} {
		info, err := os.Stat(l.path(name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}
