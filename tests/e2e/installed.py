"""What `headrace install` has put into a cluster, used: a tenant, and the engine under its own account."""

from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.command_line import CommandLine, Process

TENANT = """
apiVersion: v1
kind: Namespace
metadata: {name: tenant}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: deployer, namespace: tenant}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: deployer, namespace: tenant}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: admin}
subjects: [{kind: ServiceAccount, name: deployer, namespace: tenant}]
"""
"""A namespace with an account that may deliver into it."""


def start_engine(administrator: CommandLine, home: Path, *arguments: str) -> Process:
    """The engine with a token of its account and nothing else. There is no image to run in the cluster."""
    administrator.kubectl("delete", "deployment", "headrace", "-n", "flux-system")
    config = json.loads(administrator.kubectl("config", "view", "--raw", "-o", "json"))
    token = administrator.kubectl("create", "token", "headrace", "-n", "flux-system").strip()
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    home.mkdir(exist_ok=True)
    kubeconfig = home / "kubeconfig"
    kubeconfig.write_text(json.dumps(config))
    process = CommandLine(home, kubeconfig).start(
        "run", "--metrics-addr=127.0.0.1:0", "--health-addr=127.0.0.1:0", "--storage-addr=127.0.0.1:0",
        f"--storage-path={home / 'data'}", "--allow-loopback", "--enable-leader-election", "--log-encoding=console",
        *arguments,
    )  # fmt: skip
    process.until_said("serving")
    return process
