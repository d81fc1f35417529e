package cluster

import (
	"encoding/base64"
	"fmt"
	"os"

	"headrace.dev/headrace/go/internal/controlplane/pki"
	"headrace.dev/headrace/go/internal/controlplane/stages"
)

const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
`

const kubeconfigTemplate = `apiVersion: v1
kind: Config
clusters:
- name: headrace
  cluster:
    server: %s
    certificate-authority-data: %s
contexts:
- name: headrace
  context: {cluster: headrace, user: %s}
current-context: headrace
users:
- name: %s
  user:
    client-certificate-data: %s
    client-key-data: %s
`

// writeFiles writes what the components read besides their flags.
func writeFiles(l *layout, p ports) error {
	for _, name := range []string{pki.ControllerManager, pki.Scheduler, pki.Kwok} {
		if err := writeKubeconfig(l, p, name, l.path("run", name+".kubeconfig")); err != nil {
			return err
		}
	}
	if err := writeFile(l.path("run", "kwok.yaml"), []byte(stages.Config())); err != nil {
		return err
	}
	if err := writeFile(l.path("run", "audit-policy.yaml"), []byte(auditPolicy)); err != nil {
		return err
	}
	return writeKubeconfig(l, p, pki.Admin, l.path("kubeconfig"))
}

// writeKubeconfig embeds the credentials, so that the file can be moved.
func writeKubeconfig(l *layout, p ports, user, path string) error {
	var embedded [3]string
	for i, source := range []string{l.pki.Cert(pki.CA), l.pki.Cert(user), l.pki.Key(user)} {
		data, err := os.ReadFile(source)
		if err != nil {
			return err
		}
		embedded[i] = base64.StdEncoding.EncodeToString(data)
	}
	text := fmt.Sprintf(kubeconfigTemplate, server(p), embedded[0], user, user, embedded[1], embedded[2])
	return writeFile(path, []byte(text))
}

func server(p ports) string { return "https://" + address(p.APIServer) }
