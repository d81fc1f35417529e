package serve

import (
	"bytes"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"time"
)

// MemoryExit is the exit code of a process that grew beyond its limit.
const MemoryExit = 77

// LimitMemory makes the collector work harder near the limit, and ends the
// process beyond it: a build cannot be stopped, and the machine must not suffer.
func LimitMemory(limit int64) {
	if limit <= 0 {
		return
	}
	debug.SetMemoryLimit(limit / 10 * 9)
	go func() {
		for range time.Tick(100 * time.Millisecond) {
			if used := anonymous(); used > limit {
				fmt.Fprintf(os.Stderr, "headrace-toolbox: memory limit: %d bytes used, %d allowed\n", used, limit)
				os.Exit(MemoryExit)
			}
		}
	}()
}

// anonymous is the resident memory without the shared pages of the binary.
func anonymous() int64 {
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(data)
	if len(fields) < 3 {
		return 0
	}
	resident, _ := strconv.ParseInt(string(fields[1]), 10, 64)
	shared, _ := strconv.ParseInt(string(fields[2]), 10, 64)
	return (resident - shared) * int64(os.Getpagesize())
}
