// Package egress makes HTTP clients for URLs that tenants name: each address that a
// name leads to is checked when it becomes a connection, by the same rules as in the
// parent (headrace.core.egress).
package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"
)

const (
	connectTimeout = 10 * time.Second
	answerTimeout  = 20 * time.Second
)

// Policy says which addresses may be connected to. It is the operator's.
type Policy struct {
	AllowLoopback bool `json:"allow_loopback"`
	// AllowHosts are `host` or `host:port`, wherever their addresses lead.
	AllowHosts   []string       `json:"allow_hosts"`
	DenyNetworks []netip.Prefix `json:"deny_networks"`
	// CAFile holds CAs in PEM that are trusted besides the system's.
	CAFile string `json:"ca_file"`
}

// Denied tells that an address may not be connected to.
type Denied struct {
	Host, Address, Reason string
}

func (d *Denied) Error() string {
	return fmt.Sprintf("connection to '%s' is denied: %s is %s", d.Host, d.Address, d.Reason)
}

// Client makes a client of its own: libraries change the one that they are given.
// It follows no redirect and uses no proxy.
func (p Policy) Client() (*http.Client, error) {
	roots, err := p.roots()
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		DialContext:         p.dial,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout: connectTimeout,
		// A client serves one data key: nothing is to be left open behind it.
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: 1 << 16,
	}
	return &http.Client{Transport: transport, Timeout: answerTimeout, CheckRedirect: stay}, nil
}

func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func (p Policy) roots() (*x509.CertPool, error) {
	if p.CAFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(p.CAFile)
	if err != nil {
		return nil, err
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", p.CAFile)
	}
	return roots, nil
}

func (p Policy) dial(ctx context.Context, network, target string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(target)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: connectTimeout}
	if !slices.Contains(p.AllowHosts, host) && !slices.Contains(p.AllowHosts, target) {
		dialer.Control = func(_, address string, _ syscall.RawConn) error { return p.check(host, address) }
	}
	return dialer.DialContext(ctx, network, target)
}

func (p Policy) check(host, target string) error {
	connected, err := netip.ParseAddrPort(target)
	if err != nil {
		return err
	}
	if reason := p.reason(Meant(connected.Addr())); reason != "" {
		return &Denied{host, connected.Addr().String(), reason}
	}
	return nil
}

var (
	metadata = []netip.Addr{
		netip.MustParseAddr("169.254.169.254"), netip.MustParseAddr("fd00:ec2::254"),
		netip.MustParseAddr("100.100.100.200"), netip.MustParseAddr("192.0.0.192"),
	}
	broadcast = netip.MustParseAddr("255.255.255.255")
	nat64     = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour = netip.MustParsePrefix("2002::/16")
)

func (p Policy) reason(address netip.Addr) string {
	switch {
	case slices.Contains(metadata, address):
		return "a cloud metadata address"
	case address.IsLoopback():
		if p.AllowLoopback {
			return ""
		}
		return "a loopback address"
	case address.IsLinkLocalUnicast():
		return "a link-local address"
	case address.IsUnspecified(), address.IsMulticast(), address == broadcast:
		return "no address of a host"
	}
	for _, network := range p.DenyNetworks {
		if network.Contains(address) {
			return "in a network closed by the operator"
		}
	}
	return ""
}

// Meant is the address that another one carries: mapped, 6to4, NAT64.
func Meant(address netip.Addr) netip.Addr {
	address = address.WithZone("").Unmap()
	raw := address.As16()
	switch {
	case nat64.Contains(address):
		return netip.AddrFrom4([4]byte(raw[12:16]))
	case sixToFour.Contains(address):
		return netip.AddrFrom4([4]byte(raw[2:6]))
	}
	return address
}
