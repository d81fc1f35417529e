"""`headrace install`, and the engine with exactly the rights that it gives. A control plane of its own: the CRDs of
others are not to be removed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from tests.e2e.command_line import CommandLine, Process, until
from tests.e2e.installed import TENANT, start_engine
from tests.servers.control_plane import shared_control_plane
from tests.servers.git_http import GitServer, Repository

pytestmark = pytest.mark.timeout(300)

DELIVERY = """
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: repo, namespace: tenant}
spec: {interval: 1m, url: "%(url)s", ref: {branch: main}}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: granted, namespace: tenant}
spec:
  interval: 1m
  prune: true
  wait: true
  serviceAccountName: deployer
  sourceRef: {kind: GitRepository, name: repo}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: denied, namespace: tenant}
spec: {interval: 1m, prune: true, namePrefix: other-, sourceRef: {kind: GitRepository, name: repo}}
"""

MANIFEST = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: tenant}
data: {key: value}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: app, namespace: tenant}
spec:
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec: {containers: [{name: app, image: example.org/app}]}
"""


@pytest.fixture(scope="module")
def headrace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """The command line as an administrator of a fresh cluster."""
    home = tmp_path_factory.mktemp("install")
    with shared_control_plane(home / "control-plane") as plane:
        yield CommandLine(home, plane.kubeconfig)


@pytest.fixture(scope="module")
def installed(headrace: CommandLine) -> CommandLine:
    headrace("install").ok()
    return headrace


@pytest.fixture(scope="module")
def engine(installed: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """The engine with a token of the service account and nothing else."""
    process = start_engine(installed, tmp_path_factory.mktemp("engine"))
    yield process
    process.kill()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a repository with the manifest, served from a thread of its own."""
    root = tmp_path_factory.mktemp("git")
    Repository(root, "app").commit({"app.yaml": MANIFEST})
    server = GitServer(root)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.start(), loop).result()
    yield server.url("app")
    asyncio.run_coroutine_threadsafe(server.stop(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def condition(headrace: CommandLine, name: str) -> str:
    """Status, reason and message of a Kustomization's Ready condition."""
    path = 'jsonpath={range .status.conditions[?(@.type=="Ready")]}{.status} {.reason} {.message}{end}'
    return headrace.kubectl("get", "kustomization", name, "-n", "tenant", "-o", path)


def test_the_api_server_accepts_every_manifest_before_anything_is_there(headrace: CommandLine) -> None:
    done = headrace("install", "--dry-run", "--cluster-admin", "--storage", "1Gi")
    assert done.code == 0, done.said
    assert "Deployment/flux-system/headrace would be applied" in done.err
    assert "flux-system" not in headrace.kubectl("get", "namespaces", "-o", "name")


def test_exported_manifests_are_accepted_by_kubectl(headrace: CommandLine) -> None:
    exported = headrace("install", "--export").ok()
    assert exported.startswith("---")
    crds = exported.count("kind: CustomResourceDefinition")
    out = headrace.kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=_cluster_scoped(exported))
    assert out.count("serverside-applied") >= crds + 2


def _cluster_scoped(exported: str) -> str:
    """Those that need no namespace, which does not exist yet."""
    documents = exported.split("---\n")
    return "---\n".join(d for d in documents if "\n  namespace: flux-system" not in d)


def test_the_engine_runs_with_the_rights_of_its_account(installed: CommandLine, engine: Process) -> None:
    assert "forbidden" not in engine.log.lower()
    holder = ("get", "lease", "-n", "flux-system", "headrace-leader-election", "-o", "jsonpath={.spec.holderIdentity}")
    assert installed.kubectl(*holder) != ""


def test_it_delivers_in_the_name_of_an_account_and_nothing_without_one(
    installed: CommandLine, engine: Process, repository: str
) -> None:
    installed.kubectl("apply", "-f", "-", stdin=TENANT)
    installed.kubectl("apply", "-f", "-", stdin=DELIVERY % {"url": repository})
    until(lambda: condition(installed, "granted").startswith("True"), "the delivery with an account")
    assert "deployment.apps/app" in installed.kubectl("get", "deployment", "-n", "tenant", "-o", "name")
    denied = until(lambda: (c := condition(installed, "denied")).startswith("False") and c, "the refusal")
    assert denied
    assert "forbidden" in denied
    assert "other-settings" not in installed.kubectl("get", "configmap", "-n", "tenant", "-o", "name")


def test_a_deleted_kustomization_takes_what_it_delivered_with_it(installed: CommandLine, engine: Process) -> None:
    installed.kubectl("delete", "kustomization", "granted", "-n", "tenant")
    assert "settings" not in installed.kubectl("get", "configmap", "-n", "tenant", "-o", "name")


@pytest.mark.spec("REL-35")
def test_sigterm_ends_it_in_order_and_the_lease_is_free(installed: CommandLine, engine: Process) -> None:
    assert engine.stop() == 0
    holder = ("get", "lease", "-n", "flux-system", "headrace-leader-election", "-o", "jsonpath={.spec.holderIdentity}")
    assert installed.kubectl(*holder) == ""


def test_uninstall_removes_the_engine_and_leaves_what_was_delivered(installed: CommandLine, engine: Process) -> None:
    body = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"delivered","namespace":"tenant"}}'
    installed.kubectl("apply", "-f", "-", stdin=body)
    done = installed("uninstall", "--yes")
    assert done.code == 0, done.said
    assert "toolkit.fluxcd.io" not in installed.kubectl("get", "crd", "-o", "name")
    assert "headrace" not in installed.kubectl("get", "clusterrole,clusterrolebinding", "-o", "name")
    assert "delivered" in installed.kubectl("get", "configmap", "-n", "tenant", "-o", "name")
