//go:build linux && (amd64 || arm64)

package jail

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestMain lets the test binary be the prisoner: the jail cannot be left.
func TestMain(m *testing.M) {
	if target := os.Getenv("JAILED"); target != "" {
		os.Exit(jailed(target))
	}
	os.Exit(m.Run())
}

func jailed(readable string) int {
	if err := Enter(); err != nil {
		println("enter:", err.Error())
		return 2
	}
	done := make(chan string)
	go func() { done <- attempts(readable) }() // on a thread of its own
	if got := <-done; got != "" {
		println(got)
		return 1
	}
	return 0
}

func attempts(readable string) string {
	if _, err := net.Dial("tcp", "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "permission denied") {
		return "a socket was opened"
	}
	if err := exec.Command("/bin/true").Run(); err == nil {
		return "a program was run"
	}
	if err := syscall.Kill(os.Getppid(), 0); err == nil {
		return "the parent can be signalled"
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(readable), "written"), []byte("x"), 0o600); err == nil {
		return "a file was written"
	}
	if os.Getuid() == 0 {
		return "still root"
	}
	if content, err := os.ReadFile(readable); err != nil || string(content) != "content" {
		return "a private file of the storage cannot be read"
	}
	return ""
}

func TestAProcessInTheJailCanOnlyRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "private")
	if err := os.WriteFile(file, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(os.Args[0])
	command.Env = []string{"JAILED=" + file}
	if said, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
}
