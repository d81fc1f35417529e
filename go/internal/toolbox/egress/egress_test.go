package egress

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

func TestAddressesThatAreClosed(t *testing.T) {
	policy := Policy{DenyNetworks: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")}}
	for address, denied := range map[string]bool{
		"169.254.169.254:80": true, "[::ffff:169.254.169.254]:80": true, "[64:ff9b::a9fe:a9fe]:80": true,
		"[2002:a9fe:a9fe::1]:80": true, "[fd00:ec2::254]:80": true, "127.0.0.1:80": true, "[::1]:80": true,
		"[::ffff:127.0.0.1]:80": true, "169.254.1.1:80": true, "[fe80::1%1]:80": true, "0.0.0.0:80": true,
		"224.0.0.1:80": true, "255.255.255.255:80": true, "10.96.0.1:443": true,
		"93.184.216.34:443": false, "10.0.0.1:443": false, "[2606:2800::1]:443": false,
	} {
		if err := policy.check("host", address); (err != nil) != denied {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestTheConnectedAddressIsChecked(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	for _, policy := range []Policy{{}, {AllowHosts: []string{"127.0.0.1:1"}}} {
		var denied *Denied
		if _, err := fetch(t, policy, server.URL); !errors.As(err, &denied) {
			t.Errorf("%+v: %v", policy, err)
		}
	}
	host := strings.TrimPrefix(server.URL, "http://")
	for _, policy := range []Policy{{AllowLoopback: true}, {AllowHosts: []string{"127.0.0.1"}}, {AllowHosts: []string{host}}} {
		if status, err := fetch(t, policy, server.URL); err != nil || status != http.StatusNotFound {
			t.Errorf("%+v: %d %v", policy, status, err)
		}
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	server := httptest.NewServer(http.RedirectHandler("http://169.254.169.254/", http.StatusFound))
	defer server.Close()
	if status, err := fetch(t, Policy{AllowLoopback: true}, server.URL); err != nil || status != http.StatusFound {
		t.Error(status, err)
	}
}

func TestACAFileThatHoldsNoneIsAnError(t *testing.T) {
	for _, file := range []string{"/nonexistent", "egress.go"} {
		if _, err := (Policy{CAFile: file}).Client(); err == nil {
			t.Error(file)
		}
	}
}

func fetch(t *testing.T, policy Policy, url string) (int, error) {
	t.Helper()
	client, err := policy.Client()
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Get(url)
	if err != nil {
		return 0, err
	}
	return answer.StatusCode, answer.Body.Close()
}
