"""SEC-57 and SEC-59: what the installed engine may do in a cluster, against what it does, and what its pod may do."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from headrace.api.kinds import KINDS
from headrace.cli.manifests import NAME, WATCH, InstallOptions, manifests
from headrace.cli.rights import BUILT_IN
from headrace.cluster import EmbeddedCluster
from headrace.core.clock import SystemClock
from headrace.core.egress import Egress, EgressPolicy
from headrace.source.oci.reference import Repository as OciPath
from headrace.source.oci.registry import Registry
from tests.cluster.ocirepository.world import Pusher
from tests.e2e.command_line import CommandLine, Process, until
from tests.e2e.installed import TENANT, start_engine
from tests.servers.git_http import GitServer, Repository
from tests.servers.helm_http import HelmServer, helm_server
from tests.servers.registry import RegistryServer, registry_server
from tests.servers.s3 import REGION, S3Server, s3_server

Json = dict[str, Any]
Right = tuple[str, str, str]
"""Group, resource with its subresource, verb."""

ACCOUNT = f"system:serviceaccount:flux-system:{NAME}"
DEFAULT = InstallOptions()
READ = frozenset({"get", "list", "watch"})
EVERYBODY = frozenset({("authorization.k8s.io", "selfsubjectaccessreviews", "create")})
"""What the API server lets every account do (`system:basic-user`)."""
DISCOVERY = ("/api", "/apis", "/version", "/openapi", "/healthz", "/readyz", "/livez")
"""Paths that every account may read (`system:discovery`)."""

WIDGETS = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Widget, listKind: WidgetList, plural: widgets, singular: widget}
  versions:
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: widgets, labels: {headrace.dev/aggregate-to-watch: "true"}}
rules: [{apiGroups: [example.com], resources: [widgets], verbs: [get, list, watch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: widgets-edit, labels: {rbac.authorization.k8s.io/aggregate-to-admin: "true"}}
rules: [{apiGroups: [example.com], resources: [widgets], verbs: ["*"]}]
"""

KEYS = """
apiVersion: v1
kind: Secret
metadata: {name: keys, namespace: tenant}
stringData: {accesskey: "%(access_key)s", secretkey: "%(secret_key)s"}
"""

SOURCES = """
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: repo, namespace: tenant}
spec: {interval: 1h, url: "%(git)s", ref: {branch: main}}
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: OCIRepository
metadata: {name: image, namespace: tenant}
spec: {interval: 1h, url: "%(oci)s", insecure: true, ref: {tag: "1"}}
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: Bucket
metadata: {name: bucket, namespace: tenant}
spec:
  interval: 1h
  endpoint: "%(s3)s"
  region: %(region)s
  insecure: true
  bucketName: manifests
  secretRef: {name: keys}
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: HelmRepository
metadata: {name: charts, namespace: tenant}
spec: {interval: 1h, url: "%(helm)s"}
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: HelmChart
metadata: {name: chart, namespace: tenant}
spec: {interval: 1h, chart: app, sourceRef: {kind: HelmRepository, name: charts}}
---
apiVersion: source.extensions.fluxcd.io/v1beta1
kind: ArtifactGenerator
metadata: {name: generator, namespace: tenant}
spec:
  sources: [{alias: repo, kind: GitRepository, name: repo}]
  artifacts: [{name: generated, copy: [{from: "@repo/part/**", to: "@artifact/"}]}]
"""

DELIVERED = {"GitRepository": "repo", "OCIRepository": "image", "Bucket": "bucket", "ExternalArtifact": "generated"}
"""The name of the source of each kind that is delivered."""


def settings(name: str) -> str:
    data = {"key": "${accesskey}"}
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})


APP = """
apiVersion: v1
kind: Secret
metadata: {name: delivered}
stringData: {password: hidden}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec: {containers: [{name: app, image: example.org/app}]}
---
apiVersion: example.com/v1
kind: Widget
metadata: {name: widget}
"""


# -- rights (SEC-57) ---------------------------------------------------------------------------------------------------


def rules(options: InstallOptions = DEFAULT) -> list[Json]:
    """All rules that the manifests of an installation write for the engine."""
    roles = [
        m for m in manifests(options, []) if m["kind"] in ("ClusterRole", "Role") and m["metadata"]["name"] == NAME
    ]
    return [rule for role in roles for rule in role.get("rules", [])]


def granted() -> set[Right]:
    return {
        (group, resource, verb)
        for rule in rules() for group in rule["apiGroups"] for resource in rule["resources"] for verb in rule["verbs"]
    }  # fmt: skip


OWN = [(info.group, info.plural) for info in KINDS.values()]
UNUSED = {
    ("", "events", "patch"): "an event that is repeated is counted, not written again",
    ("source.toolkit.fluxcd.io", "externalartifacts", "create"): "one is made by an apply, which the log calls a patch",
    **{(*own, "list"): "API servers that do not stream lists" for own in OWN},
    **{(*own, "get"): "an object that somebody else writes at the same time is read again" for own in OWN},
}
"""Rights on what is no kind of Kubernetes that this story may not need, with the reason why they are granted."""


@dataclass
class Audit:
    """What the API server logged of the engine's account: rights that were used, by whom, and refusals."""

    used: set[Right] = field(default_factory=set)
    impersonated: set[str] = field(default_factory=set)
    paths: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)

    def take(self, event: Json) -> None:
        if event["user"]["username"] != ACCOUNT:
            return
        if "impersonatedUser" in event:
            self.impersonated.add(event["impersonatedUser"]["username"])
            self.used.add(("", "serviceaccounts", "impersonate"))
            return
        target = event.get("objectRef", {})
        if "resource" not in target:
            self.paths.add(urlsplit(event["requestURI"]).path)
            return
        resource = "/".join(filter(None, (target["resource"], target.get("subresource", ""))))
        self.used.add((target.get("apiGroup", ""), resource, event["verb"]))
        if event.get("responseStatus", {}).get("code") == 403:
            self.refused.append(f"{event['verb']} {resource} {event['requestURI']}")


def audited(log: Path) -> Audit:
    audit = Audit()
    for line in log.read_text().splitlines():
        audit.take(json.loads(line))
    return audit


@dataclass
class Installation:
    """A cluster of its own with an audit log, in which the engine runs with the rights of its account only."""

    line: CommandLine
    audit: Path
    engine: Process

    async def kubectl(self, *argv: str, stdin: str = "") -> str:
        return await asyncio.to_thread(lambda: self.line.kubectl(*argv, stdin=stdin))

    async def apply(self, text: str) -> None:
        await self.kubectl("apply", "-f", "-", stdin=text)

    async def ready(self, *names: str) -> None:
        try:
            await self.kubectl("wait", "-n", "tenant", "--for=condition=Ready", "--timeout=60s", *names)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.engine.log[-4000:]}") from None

    async def until_there(self, name: str) -> None:
        get = ("get", name, "-n", "tenant", "-o", "name", "--ignore-not-found")
        await asyncio.to_thread(until, lambda: self.line.kubectl(*get), f"{name} again")


@contextlib.asynccontextmanager
async def installation(directory: Path) -> AsyncIterator[Installation]:
    audit = directory / "audit.log"
    async with EmbeddedCluster(directory / "cluster", ephemeral=True, audit_log=audit) as cluster:
        line = CommandLine(directory / "home", cluster.kubeconfig)
        (await asyncio.to_thread(line, "install")).ok()
        more = ("--external-artifact", "--artifact-digest-algo=blake3")
        engine = await asyncio.to_thread(start_engine, line, directory / "engine", *more)
        try:
            yield Installation(line, audit, engine)
            assert await asyncio.to_thread(engine.stop) == 0
        finally:
            engine.kill()


@dataclass
class Upstreams:
    """Real servers of each kind of source, filled."""

    repository: Repository
    git: GitServer
    oci: RegistryServer
    s3: S3Server
    helm: HelmServer

    def sources(self) -> str:
        return SOURCES % {
            "git": self.git.url("app"), "oci": self.oci.url("manifests/app"), "s3": self.s3.endpoint,
            "helm": self.helm.url, "region": REGION,
        }  # fmt: skip


@contextlib.asynccontextmanager
async def upstreams(directory: Path) -> AsyncIterator[Upstreams]:
    async with contextlib.AsyncExitStack() as stack:
        (directory / "git").mkdir()
        git = GitServer(directory / "git")
        repository = Repository(git.root, "app")
        repository.commit({"app/app.yaml": APP, "app/settings.yaml": settings("repo"),
                           "part/settings.yaml": settings("generated")})  # fmt: skip
        await git.start()
        stack.push_async_callback(git.stop)
        oci = await stack.enter_async_context(registry_server(directory / "registry"))
        s3 = await stack.enter_async_context(s3_server(directory / "s3"))
        helm = await stack.enter_async_context(helm_server())
        helm.add()
        await s3.make_bucket("manifests")
        await s3.put("manifests", "settings.yaml", settings("bucket").encode())
        egress = Egress(EgressPolicy(allow_loopback=True))
        stack.push_async_callback(egress.close)
        pusher = Pusher(Registry(egress, SystemClock()), OciPath(oci.address, "manifests/app"))
        await pusher.push("1", {"settings.yaml": settings("image")})
        yield Upstreams(repository, git, oci, s3, helm)


def deliveries() -> str:
    found = []
    for kind, source in DELIVERED.items():
        spec = {
            "interval": "1h", "prune": True, "wait": True, "timeout": "1m", "serviceAccountName": "deployer",
            "targetNamespace": "tenant", "sourceRef": {"kind": kind, "name": source},
            "path": "./app" if kind == "GitRepository" else "./",
            "postBuild": {"substituteFrom": [{"kind": "Secret", "name": "keys", "optional": True}]},
        }  # fmt: skip
        found.append({"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
                      "metadata": {"name": source, "namespace": "tenant"}, "spec": spec})  # fmt: skip
    return yaml.safe_dump_all(found)


@pytest.mark.timeout(400)
@pytest.mark.spec("SEC-57")
async def test_the_engine_may_do_what_a_delivery_of_all_kinds_takes_and_no_more(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # A Unix socket needs a short name.
    async with upstreams(tmp_path) as served, installation(tmp_path_factory.mktemp("posture")) as installed:
        await installed.apply(WIDGETS)
        keys = served.s3.keys
        await installed.apply(TENANT)
        await installed.apply(KEYS % {"access_key": keys.access_key, "secret_key": keys.secret_key})
        await installed.apply(served.sources() + "---\n" + deliveries())
        await installed.ready(
            "helmrepository/charts", "helmchart/chart", "artifactgenerator/generator", "externalartifact/generated",
            *(f"kustomization/{name}" for name in DELIVERED.values()),
        )  # fmt: skip
        path = "jsonpath={.status.artifact.digest}"
        digest = await installed.kubectl("get", "gitrepository", "repo", "-n", "tenant", "-o", path)
        assert digest.startswith("blake3:"), "what was delivered is of that algorithm"
        for drift in ("configmap/repo", "secret/delivered", "deployment/app", "widget/widget"):
            await installed.kubectl("delete", drift, "-n", "tenant")
            await installed.until_there(drift)
        await installed.kubectl("delete", "artifactgenerator/generator", "-n", "tenant", "--wait")
        await installed.kubectl("delete", "kustomization", "--all", "-n", "tenant", "--wait")
        for info in KINDS.values():
            await installed.kubectl("delete", f"{info.plural}.{info.group}", "--all", "-n", "tenant", "--wait")
    check(audited(installed.audit))


def check(audit: Audit) -> None:
    """Compare both ways."""
    own = {right for right in audit.used if right[0] != "example.com"} - EVERYBODY
    assert own <= granted(), "a verb is used that is not granted"
    assert not [refused for refused in audit.refused if "widgets" not in refused]
    assert all(path == "/" or path.startswith(DISCOVERY) for path in audit.paths)
    assert audit.impersonated == {"system:serviceaccount:tenant:deployer"}
    of_kubernetes = {(group, name, verb) for group, names in BUILT_IN.items() for name in names for verb in READ}
    # Any kind of Kubernetes may be delivered, and is watched then: not all of them are here.
    needless = granted() - audit.used - of_kubernetes
    assert needless <= set(UNUSED), "a verb is granted that is not used"
    assert set(UNUSED) <= granted(), "a reason is given for what is not granted"
    assert {("", "secrets", "get"), ("", "secrets", "watch"), ("", "configmaps", "watch")} <= audit.used


@pytest.mark.spec("SEC-57")
@pytest.mark.parametrize("tenancy", ["flux", "strict"])
def test_no_rule_of_the_engine_says_everything(tenancy: str) -> None:
    found = rules(InstallOptions(tenancy=tenancy, arguments=("--object-level-workload-identity",)))
    for rule in found:
        assert all("*" not in text for key in ("apiGroups", "resources", "verbs") for text in rule[key])
    resources = {resource for rule in found for resource in rule["resources"]}
    assert not {name for name in resources if name.startswith(("nodes/", "pods/"))}, "these run commands in pods"


@pytest.mark.spec("SEC-57")
def test_secrets_may_be_read_and_nothing_else() -> None:
    assert {verb for group, resource, verb in granted() if resource == "secrets"} == READ


def test_other_kinds_come_by_aggregation_and_the_role_is_bound() -> None:
    found = {(m["kind"], m["metadata"]["name"]): m for m in manifests(InstallOptions(), [])}
    assert "rules" not in found["ClusterRole", WATCH], "the controller manager fills them in"
    assert found["ClusterRoleBinding", WATCH]["roleRef"]["name"] == WATCH


# -- the pod (SEC-59) --------------------------------------------------------------------------------------------------


OPTIONS = [(), ("--tenancy", "strict"), ("--storage", "1Gi"), ("--cluster-admin", "--replicas", "2")]


def exported(directory: Path, arguments: Iterable[str]) -> list[Json]:
    """What `headrace install --export` prints."""
    out = CommandLine(directory)("install", "--export", *arguments).ok()
    return [document for document in yaml.safe_load_all(out) if document]


@pytest.mark.spec("SEC-59")
@pytest.mark.parametrize("arguments", OPTIONS, ids=" ".join)
def test_the_exported_pods_have_no_rights_on_their_node(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    pods = [m["spec"]["template"]["spec"] for m in exported(tmp_path, arguments) if "template" in m.get("spec", {})]
    assert len(pods) == 1
    [pod] = pods
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers", "initContainers", "ephemeralContainers"} & pod.keys()
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert all(volume.keys() <= {"name", "emptyDir", "persistentVolumeClaim"} for volume in pod["volumes"])
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert context.get("privileged", False) is False
        assert not any("hostPort" in port for port in container["ports"])
        assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]


@pytest.mark.spec("SEC-59")
def test_every_path_that_the_engine_writes_is_a_volume(tmp_path: Path) -> None:
    [pod] = [m["spec"]["template"]["spec"] for m in exported(tmp_path, ()) if m["kind"] == "Deployment"]
    [container] = pod["containers"]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert set(mounts.values()) == {volume["name"] for volume in pod["volumes"]}
    options = dict(argument.removeprefix("--").partition("=")[::2] for argument in container["args"])
    environment = {variable["name"]: variable.get("value", "") for variable in container["env"]}
    written = [options["storage-path"], environment["XDG_STATE_HOME"], environment["HOME"], "/tmp"]
    for path in written:
        assert any(Path(path).is_relative_to(mount) for mount in mounts), f"{path} is not writable"


@pytest.mark.spec("SEC-59")
@pytest.mark.parametrize("arguments", OPTIONS, ids=" ".join)
def test_the_namespace_refuses_pods_that_may_do_more(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    [namespace] = [m for m in exported(tmp_path, arguments) if m["kind"] == "Namespace"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
