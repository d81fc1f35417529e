package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
)

// ports are chosen once and kept: what points at the cluster must survive its
// restart.
type ports struct {
	APIServer int `json:"kube-apiserver"`
	Etcd      int `json:"etcd"`
	EtcdPeer  int `json:"etcd-peer"`
}

// state is the content of state.json.
type state struct {
	Ports ports `json:"ports"`
}

// The range lies below the kernel's ephemeral ports, one of which an outgoing
// connection of any program may hold at our next start.
const (
	firstPort = 20000
	lastPort  = 32000
)

func loadPorts(l *layout) (ports, error) {
	data, err := os.ReadFile(l.path("state.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return newPorts(l)
	}
	if err != nil {
		return ports{}, err
	}
	var kept state
	if err := json.Unmarshal(data, &kept); err != nil {
		return ports{}, fmt.Errorf("read %s: %w", l.path("state.json"), err)
	}
	return kept.Ports, kept.Ports.check(l)
}

func newPorts(l *layout) (ports, error) {
	var chosen ports
	taken := map[int]bool{}
	for _, port := range []*int{&chosen.APIServer, &chosen.Etcd, &chosen.EtcdPeer} {
		free, err := freePort(taken)
		if err != nil {
			return ports{}, err
		}
		*port = free
	}
	data, err := json.MarshalIndent(state{Ports: chosen}, "", "  ")
	if err != nil {
		return ports{}, err
	}
	return chosen, writeFile(l.path("state.json"), append(data, '\n'))
}

func freePort(taken map[int]bool) (int, error) {
	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if !taken[port] && isFree(port) {
			taken[port] = true
			return port, nil
		}
	}
	return 0, fmt.Errorf("no free port between %d and %d on 127.0.0.1", firstPort, lastPort)
}

func isFree(port int) bool {
	listener, err := net.Listen("tcp4", address(port))
	if err != nil {
		return false
	}
	return listener.Close() == nil
}

func (p ports) check(l *layout) error {
	for name, port := range map[string]int{"kube-apiserver": p.APIServer, "etcd": p.Etcd, "etcd-peer": p.EtcdPeer} {
		if !isFree(port) {
			return fmt.Errorf("port %d on 127.0.0.1, kept for %s, is taken by another program: stop that program, or delete %s to choose new ports",
				port, name, l.path("state.json"))
		}
	}
	return nil
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
