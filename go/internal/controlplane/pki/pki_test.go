package pki

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
)

func TestEnsure(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	made, err := Ensure(dir)
	if err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(made.Key(Admin))
	if _, err := Ensure(dir); err != nil {
		t.Fatal(err)
	}
	after, _ := os.ReadFile(made.Key(Admin))
	if string(before) != string(after) {
		t.Error("a second run made a new key")
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, file := range files {
		if info, _ := os.Stat(file); info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", file, info.Mode().Perm())
		}
	}
}

func TestEtcdTrustsNoKubernetesCredential(t *testing.T) {
	made, err := Ensure(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, authority := range map[string]string{
		Admin: CA, APIServer: CA, Kwok: CA, Etcd: EtcdCA, EtcdClient: EtcdCA,
	} {
		for _, candidate := range []string{CA, EtcdCA} {
			err := verify(t, made, name, candidate)
			if (err == nil) != (candidate == authority) {
				t.Errorf("%s against %s: %v", name, candidate, err)
			}
		}
	}
}

func verify(t *testing.T, made Dir, name, authority string) error {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(made.Cert(name), made.Key(name))
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(made.Cert(authority))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(data)
	_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth,
		x509.ExtKeyUsageServerAuth}})
	return err
}
