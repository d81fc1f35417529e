package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"headrace.dev/headrace/go/internal/controlplane/pki"
)

// api is the supervisor's small client. It speaks plain JSON: client-go would
// cost this otherwise idle process tens of megabytes.
type api struct {
	server string
	http   *http.Client
}

func newAPI(l *layout, p ports) (*api, error) {
	cert, err := tls.LoadX509KeyPair(l.pki.Cert(pki.Supervisor), l.pki.Key(pki.Supervisor))
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(l.pki.Cert(pki.CA))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	transport := &http.Transport{
		Proxy:           nil,
		TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13},
		IdleConnTimeout: 5 * time.Second,
	}
	return &api{server: server(p), http: &http.Client{Transport: transport, Timeout: 10 * time.Second}}, nil
}

// call sends one request and decodes the answer unless `into` is nil.
func (a *api) call(ctx context.Context, method, path string, body, into any) (status int, err error) {
	var sent io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		sent = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, a.server+path, sent)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	response, err := a.http.Do(request)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(response.Body, 16<<20))
	if err != nil {
		return response.StatusCode, err
	}
	if response.StatusCode >= 400 {
		return response.StatusCode, fmt.Errorf("%s %s: %s", method, path, bytes.TrimSpace(data))
	}
	if into == nil {
		return response.StatusCode, nil
	}
	return response.StatusCode, json.Unmarshal(data, into)
}

// create makes the object unless it is there already.
func (a *api) create(ctx context.Context, path string, object any) error {
	status, err := a.call(ctx, http.MethodPost, path, object, nil)
	if status == http.StatusConflict {
		return nil
	}
	return err
}

func (a *api) ready(ctx context.Context) bool {
	_, err := a.call(ctx, http.MethodGet, "/readyz", nil, nil)
	return err == nil
}

// poll tries until it succeeds or the context ends.
func poll(ctx context.Context, every time.Duration, try func(context.Context) bool) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if try(ctx) {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}
