// Package pki makes the keys and certificates of one local cluster. They are
// made once and kept with the cluster's data; every key file has mode 0600.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	lifetime = 10 * 365 * 24 * time.Hour
	// skew forgives a clock that was set back after the cluster was made.
	skew = time.Hour
)

// Dir is the folder that holds the pairs NAME.crt and NAME.key.
type Dir string

// Cert is the path of a pair's certificate.
func (d Dir) Cert(name string) string { return filepath.Join(string(d), name+".crt") }

// Key is the path of a pair's private key.
func (d Dir) Key(name string) string { return filepath.Join(string(d), name+".key") }

// Names of the pairs.
const (
	CA                = "ca"
	EtcdCA            = "etcd-ca"
	Etcd              = "etcd"
	EtcdClient        = "etcd-client"
	APIServer         = "apiserver"
	ServiceAccount    = "service-account"
	Admin             = "admin"
	Supervisor        = "supervisor"
	ControllerManager = "controller-manager"
	Scheduler         = "scheduler"
	Kwok              = "kwok"
)

// client describes one identity towards the API server.
type client struct{ name, user, group string }

var clients = []client{
	{Admin, "kubernetes-admin", "system:masters"},
	{Supervisor, "headrace:supervisor", "system:masters"},
	{ControllerManager, "system:kube-controller-manager", ""},
	{Scheduler, "system:kube-scheduler", ""},
	{Kwok, "headrace:kwok", "system:masters"},
}

// Ensure makes whatever is missing in the folder. etcd has a certificate
// authority of its own, so that no Kubernetes credential opens the database.
func Ensure(dir string) (Dir, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	made := Dir(dir)
	ca, err := made.authority(CA, "headrace")
	if err != nil {
		return "", err
	}
	etcdCA, err := made.authority(EtcdCA, "headrace-etcd")
	if err != nil {
		return "", err
	}
	if err := made.servers(ca, etcdCA); err != nil {
		return "", err
	}
	for _, c := range clients {
		if err := made.leaf(c.name, ca, clientTemplate(c)); err != nil {
			return "", err
		}
	}
	return made, made.serviceAccountKey()
}

func (d Dir) servers(ca, etcdCA *pair) error {
	loopback := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	api := serverTemplate("kube-apiserver")
	// 10.96.0.1 is the first address of the service range.
	api.IPAddresses = append(loopback, net.IPv4(10, 96, 0, 1))
	api.DNSNames = []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
		"kubernetes.default.svc.cluster.local"}
	if err := d.leaf(APIServer, ca, api); err != nil {
		return err
	}
	etcd := serverTemplate("etcd")
	etcd.IPAddresses, etcd.DNSNames = loopback, []string{"localhost"}
	if err := d.leaf(Etcd, etcdCA, etcd); err != nil {
		return err
	}
	return d.leaf(EtcdClient, etcdCA, clientTemplate(client{user: "kube-apiserver"}))
}

// pair is a certificate with its key.
type pair struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func serverTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

func clientTemplate(c client) *x509.Certificate {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: c.user},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if c.group != "" {
		template.Subject.Organization = []string{c.group}
	}
	return template
}

func (d Dir) authority(name, commonName string) (*pair, error) {
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: commonName},
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	if err := d.leaf(name, nil, template); err != nil {
		return nil, err
	}
	return d.load(name)
}

// leaf makes the pair unless it is there; without an issuer it signs itself.
func (d Dir) leaf(name string, issuer *pair, template *x509.Certificate) error {
	if exists(d.Cert(name)) && exists(d.Key(name)) {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return err
	}
	now := time.Now()
	template.SerialNumber, template.NotBefore, template.NotAfter = serial, now.Add(-skew), now.Add(lifetime)
	if issuer == nil {
		issuer = &pair{cert: template, key: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.cert, &key.PublicKey, issuer.key)
	if err != nil {
		return fmt.Errorf("sign certificate %s: %w", name, err)
	}
	if err := writeKey(d.Key(name), key); err != nil {
		return err
	}
	return writePEM(d.Cert(name), "CERTIFICATE", der)
}

func (d Dir) load(name string) (*pair, error) {
	certDER, err := readPEM(d.Cert(name))
	if err != nil {
		return nil, err
	}
	keyDER, err := readPEM(d.Key(name))
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(certDER)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", d.Cert(name), err)
	}
	key, err := x509.ParseECPrivateKey(keyDER)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", d.Key(name), err)
	}
	return &pair{cert: cert, key: key}, nil
}

// serviceAccountKey makes the pair that signs and checks tokens; its .crt holds
// a bare public key.
func (d Dir) serviceAccountKey() error {
	if exists(d.Cert(ServiceAccount)) && exists(d.Key(ServiceAccount)) {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	if err := writeKey(d.Key(ServiceAccount), key); err != nil {
		return err
	}
	return writePEM(d.Cert(ServiceAccount), "PUBLIC KEY", public)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(path, "EC PRIVATE KEY", der)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

func readPEM(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM block", path)
	}
	return block.Bytes, nil
}
