package cluster

import (
	"strconv"

	"headrace.dev/headrace/go/internal/controlplane/component"
	"headrace.dev/headrace/go/internal/controlplane/pki"
)

// serviceRange holds the cluster addresses of services.
const serviceRange = "10.96.0.0/16"

func etcdArgs(l *layout, p ports, o Options) []string {
	client, peer := "https://"+address(p.Etcd), "https://"+address(p.EtcdPeer)
	args := []string{
		"--name=headrace", "--data-dir=" + l.path("etcd"), "--log-level=warn",
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=headrace=" + peer,
		"--cert-file=" + l.pki.Cert(pki.Etcd), "--key-file=" + l.pki.Key(pki.Etcd),
		"--trusted-ca-file=" + l.pki.Cert(pki.EtcdCA), "--client-cert-auth",
		"--peer-cert-file=" + l.pki.Cert(pki.Etcd), "--peer-key-file=" + l.pki.Key(pki.Etcd),
		"--peer-trusted-ca-file=" + l.pki.Cert(pki.EtcdCA), "--peer-client-cert-auth",
		"--auto-compaction-mode=periodic", "--auto-compaction-retention=5m",
		// A lone member has nobody to hear from: short times only mean an
		// earlier election, so an earlier start.
		"--heartbeat-interval=50", "--election-timeout=250",
		"--snapshot-count=5000",
	}
	if o.Ephemeral {
		args = append(args, "--unsafe-no-fsync")
	}
	return args
}

func apiServerArgs(l *layout, p ports, o Options) []string {
	args := []string{
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--secure-port=" + strconv.Itoa(p.APIServer),
		// The endpoints of a Service may not be loopback addresses.
		"--endpoint-reconciler-type=none",
		"--etcd-servers=https://" + address(p.Etcd), "--etcd-cafile=" + l.pki.Cert(pki.EtcdCA),
		"--etcd-certfile=" + l.pki.Cert(pki.EtcdClient), "--etcd-keyfile=" + l.pki.Key(pki.EtcdClient),
		"--tls-cert-file=" + l.pki.Cert(pki.APIServer), "--tls-private-key-file=" + l.pki.Key(pki.APIServer),
		"--cert-dir=" + l.path("run"), "--client-ca-file=" + l.pki.Cert(pki.CA),
		"--authorization-mode=RBAC", "--service-cluster-ip-range=" + serviceRange, "--allow-privileged=true",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + l.pki.Cert(pki.ServiceAccount),
		"--service-account-signing-key-file=" + l.pki.Key(pki.ServiceAccount),
		"--shutdown-delay-duration=0s", "--profiling=false",
	}
	if o.AuditLog != "" {
		args = append(args, "--audit-log-path="+o.AuditLog, "--audit-policy-file="+l.path("run", "audit-policy.yaml"),
			"--audit-log-maxsize=256", "--audit-log-maxbackup=1")
	}
	return args
}

func controllerManagerArgs(l *layout) []string {
	kubeconfig := l.path("run", pki.ControllerManager+".kubeconfig")
	return []string{
		"--kubeconfig=" + kubeconfig, "--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=127.0.0.1", "--secure-port=0", "--leader-elect=false", "--profiling=false",
		"--service-account-private-key-file=" + l.pki.Key(pki.ServiceAccount), "--root-ca-file=" + l.pki.Cert(pki.CA),
		"--cluster-signing-cert-file=" + l.pki.Cert(pki.CA), "--cluster-signing-key-file=" + l.pki.Key(pki.CA),
		"--flex-volume-plugin-dir=" + l.path("run", "volume-plugins"),
		"--use-service-account-credentials", "--kube-api-qps=500", "--kube-api-burst=1000",
		"--concurrent-deployment-syncs=20", "--concurrent-replicaset-syncs=20", "--concurrent-statefulset-syncs=20",
		"--concurrent-daemonset-syncs=10", "--concurrent-job-syncs=20", "--concurrent-cron-job-syncs=10",
		"--concurrent-endpoint-syncs=10", "--concurrent-service-endpoint-syncs=10",
		"--concurrent-serviceaccount-token-syncs=10", "--concurrent-namespace-syncs=20", "--concurrent-gc-syncs=30",
		"--concurrent-resource-quota-syncs=10",
		// A laptop may sleep or a busy machine stall; its nodes are not gone then.
		"--node-monitor-grace-period=3m", "--node-monitor-period=5s",
	}
}

func schedulerArgs(l *layout) []string {
	kubeconfig := l.path("run", pki.Scheduler+".kubeconfig")
	return []string{
		"--kubeconfig=" + kubeconfig, "--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=127.0.0.1", "--secure-port=0", "--leader-elect=false", "--profiling=false",
		"--kube-api-qps=500", "--kube-api-burst=1000",
	}
}

func kwokArgs(l *layout) []string {
	return []string{
		"--kubeconfig=" + l.path("run", pki.Kwok+".kubeconfig"), "--config=" + l.path("run", "kwok.yaml"),
		"--manage-all-nodes=true", "--server-address=", "--v=WARN",
	}
}

// arguments are those of every component, in the order in which they start.
func arguments(l *layout, p ports, o Options) []*member {
	members := []*member{
		{name: component.Etcd, args: etcdArgs(l, p, o), grace: etcdGrace},
		{name: component.APIServer, args: apiServerArgs(l, p, o), grace: apiServerGrace},
		{name: component.ControllerManager, args: controllerManagerArgs(l), grace: controllerGrace},
		{name: component.Scheduler, args: schedulerArgs(l), grace: controllerGrace},
		{name: component.Kwok, args: kwokArgs(l), grace: controllerGrace},
	}
	for i := range members {
		members[i].args = append(members[i].args, o.Extra[members[i].name]...)
	}
	return members
}
