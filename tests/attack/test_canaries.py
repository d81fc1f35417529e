"""SEC-35: secrets in every input of `headrace run`, once where all goes well and once where everything fails and
servers say back what they were sent. None may be in what anybody can read, nor in a file."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import asyncssh
import msgspec
import pytest
import yaml
from aiohttp import web

from headrace.api.kinds import (
    BUCKET,
    GIT_REPOSITORY,
    HELM_CHART,
    HELM_REPOSITORY,
    KINDS,
    KUSTOMIZATION,
    OCI_REPOSITORY,
    KindInfo,
)
from headrace.core.clock import SystemClock
from headrace.core.egress import Egress, EgressPolicy
from headrace.core.sigv4 import AwsKeys
from headrace.edge.listen import free_port
from headrace.kube.resource import Resource
from headrace.source.oci.credentials import Access, Credential, Keychain
from headrace.source.oci.reference import Repository as OciRepository
from headrace.source.oci.registry import Registry
from tests.attack.canaries import Canaries, files_below
from tests.attack.strict import CONFIG_MAPS, SECRETS, account, grant, put, rule
from tests.cluster.kustomization.world import World, condition, config_map
from tests.cluster.ocirepository.world import Pusher, docker_config
from tests.e2e.command_line import CommandLine, Process
from tests.servers import registry, s3
from tests.servers.control_plane import ControlPlane
from tests.servers.event_receiver import EventReceiver
from tests.servers.forward_proxy import ForwardProxy
from tests.servers.git_http import GitServer
from tests.servers.git_ssh import SshServer
from tests.servers.helm_http import helm_server
from tests.servers.object_stores import object_store
from tests.servers.registry import TokenServer, registry_server

pytestmark = pytest.mark.timeout(400)

SOPS = Path(__file__).parents[1] / "golden" / "sops"
DECRYPTION = {"provider": "sops", "secretRef": {"name": "age"}}
SERVICES = rule([""], ["services"])


@dataclass
class Planted:
    """A running engine, and all that was given to it."""

    world: World
    cluster: ControlPlane
    directory: Path
    headrace: CommandLine
    process: Process
    home: Path
    metrics: str
    receiver: EventReceiver
    stack: contextlib.AsyncExitStack
    canaries: Canaries = field(default_factory=Canaries)
    objects: list[tuple[KindInfo[Any], str]] = field(default_factory=list)

    async def secret(self, name: str, **values: str) -> None:
        data = {key.replace("__", "."): value for key, value in values.items()}
        await put(self.world, "v1", "Secret", name, {"stringData": data})

    async def object(self, kind: KindInfo[Any], name: str, **spec: Any) -> None:
        # Whoever writes a password into a spec has it there; it must not come from there to anywhere else.
        await self.world.create(kind, name, {"interval": "1h"} | spec)
        self.objects.append((kind, name))

    async def repository(self, name: str, url: str, **spec: Any) -> None:
        await self.object(GIT_REPOSITORY, name, url=url, ref={"branch": "main"}, **spec)

    async def delivery(self, name: str, **spec: Any) -> None:
        """A Kustomization of the directory of its name."""
        source = {"kind": "GitRepository", "name": "app"}
        spec |= {"path": name, "prune": True, "sourceRef": source, "targetNamespace": self.world.namespace}
        await self.object(KUSTOMIZATION, name, **spec)

    async def until_all(self, status: str) -> None:
        for kind, name in self.objects:
            await self.world.until(kind, name, lambda o: condition(o, "Ready").get("status") == status)

    # -- where it could have got to ------------------------------------------------------------------------------

    async def places(self) -> list[tuple[str, bytes]]:
        """Everything that anybody can read of the engine."""
        found = [("the log", self.process.log.encode())]
        found += [("an event that was posted", msgspec.json.encode(event)) for event in self.receiver.events]
        found += [("/metrics", await asyncio.to_thread(_get, self.metrics))]
        found += await self._objects()
        found += await self._socket()
        for kind, name in self.objects:
            for command in ("explain",):
                done = await asyncio.to_thread(
                    self.headrace, command, kind.kind.lower(), name, "-n", self.world.namespace
                )
                found.append((f"headrace {command} {kind.kind} {name}", done.said.encode()))
        return found + self.files()

    def files(self) -> list[tuple[str, bytes]]:
        return list(files_below(self.home))

    async def _objects(self) -> list[tuple[str, bytes]]:
        """All events, and our objects but for what their authors wrote."""
        kinds = [Resource(k.group, k.storage_version, k.kind, k.plural, namespaced=True) for k in KINDS.values()]
        found = []
        for resource in (*kinds, await self.world.resource("v1", "Event")):
            for live in (await self.world.client.list(resource, self.world.namespace)).items:
                content = {key: value for key, value in live.content().items() if key != "spec"}
                found.append((f"object {resource.kind} {live.metadata.name}", msgspec.json.encode(content)))
        return found

    async def _socket(self) -> list[tuple[str, bytes]]:
        address = next(self.home.joinpath("run").rglob("*.sock"))
        wanted = ["engine", "objects"]
        wanted += [f"objects/{kind.kind}/{self.world.namespace}/{name}" for kind, name in self.objects]
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(address))) as session:
            found = []
            for path in wanted:
                async with session.get(f"http://engine/v1/{path}") as answer:
                    assert answer.status == 200
                    found.append((f"the socket: {path}", await answer.read()))
        return found


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as answer:
        content: bytes = answer.read()
    return content


@pytest.fixture
async def planted(
    world: World, cluster: ControlPlane, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Planted]:
    """`headrace run` for the namespace, as talkative as can be; all that it keeps is below one directory, whose name is
    short enough for a Unix socket."""
    home, receiver, port = tmp_path_factory.mktemp("canaries"), EventReceiver(), free_port()
    await receiver.start()
    headrace = CommandLine(home, cluster.kubeconfig)
    headrace.env |= {"RUNTIME_NAMESPACE": world.namespace, "TMPDIR": str(home / "tmp")}
    (home / "tmp").mkdir()
    process = headrace.start(
        "run", "--watch-all-namespaces=false", f"--storage-path={home / 'storage'}", "--storage-addr=127.0.0.1:0",
        f"--metrics-addr=127.0.0.1:{port}", "--health-addr=", "--allow-loopback=true", "--log-level=trace",
        "--toolbox-processes=1", "--beside-flux=true", f"--events-addr={receiver.url}",
    )  # fmt: skip
    async with contextlib.AsyncExitStack() as stack:
        try:
            await asyncio.to_thread(process.until_said, "serving")
            yield Planted(world, cluster, tmp_path, headrace, process, home, f"http://127.0.0.1:{port}/metrics",
                          receiver, stack)  # fmt: skip
        finally:
            await asyncio.to_thread(process.kill)
            await receiver.stop()


# -- inputs that work --------------------------------------------------------------------------------------------------


async def plant_git(planted: Planted) -> None:
    """By password, token, key with passphrase, URL, and through a proxy that asks for a password."""
    canaries, world = planted.canaries, planted.world
    password, token = canaries.new("the password of git"), canaries.new("the token of git")
    for name, server, values in (
        ("basic", GitServer(planted.directory, basic=("robot", password)), {"username": "robot", "password": password}),
        ("bearer", GitServer(planted.directory, bearer=token), {"bearerToken": token}),
    ):
        await server.start()
        planted.stack.push_async_callback(server.stop)
        await planted.secret(name, **values)
        await planted.repository(name, server.url("app.git"), secretRef={"name": name})
    in_url = canaries.new("the password in a URL")
    server = GitServer(planted.directory, basic=("robot", in_url))
    await server.start()
    planted.stack.push_async_callback(server.stop)
    url = server.url("app.git").replace("://", f"://robot:{quote(in_url, safe='')}@")
    await planted.repository("in-url", url)
    proxy = ForwardProxy(("robot", canaries.new("the password of a proxy")))
    await proxy.start()
    planted.stack.push_async_callback(proxy.stop)
    assert proxy.basic is not None
    await planted.secret("proxy", address=proxy.address.decode(), username="robot", password=proxy.basic[1])
    await planted.repository("proxied", world.git.url("app.git"), proxySecretRef={"name": "proxy"})
    await plant_ssh(planted)


async def plant_ssh(planted: Planted) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = SshServer(planted.directory, [key])
    await server.start()
    planted.stack.push_async_callback(server.stop)
    passphrase = planted.canaries.new("the passphrase of a key")
    identity = key.export_private_key(passphrase=passphrase).decode()
    planted.canaries.known("a private key", identity.splitlines()[2])
    plain = key.export_private_key().decode().splitlines()
    planted.canaries.known("the opened private key", plain[2])
    known = server.known_hosts().decode()
    await planted.secret("ssh", identity=identity, known_hosts=known, password=passphrase)
    await planted.repository("ssh", server.url("app.git", "git"), secretRef={"name": "ssh"})


async def plant_registry(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    """An artifact behind tokens, which are given for a password."""
    password = planted.canaries.new("the password of a registry")
    monkeypatch.setattr(registry, "PASSWORD", password)
    issued: list[str] = []
    make = TokenServer._token

    def noted(self: TokenServer, service: str, access: list[dict[str, object]]) -> str:
        issued.append(make(self, service, access))
        planted.canaries.known(f"token {len(issued)} of a registry", issued[-1].rpartition(".")[2])
        return issued[-1]

    monkeypatch.setattr(TokenServer, "_token", noted)
    tokens = TokenServer()
    server = await planted.stack.enter_async_context(registry_server(planted.directory / "registry", tokens=tokens))
    egress = Egress(EgressPolicy(allow_loopback=True))
    planted.stack.push_async_callback(egress.close)
    keychain = Keychain(((server.address, Credential("robot", password)),))
    access = Access(keychain=keychain, insecure=True)
    pusher = Pusher(Registry(egress, SystemClock()), OciRepository(server.address, "org/app"), access)
    await pusher.push("one")
    pushing = len(issued)
    config = docker_config(server.address, "robot", password)[".dockerconfigjson"].decode()
    await planted.secret("registry", __dockerconfigjson=config)
    await planted.object(OCI_REPOSITORY, "oci", url=server.url("org/app"), ref={"tag": "one"}, insecure=True,
                         secretRef={"name": "registry"})  # fmt: skip
    await planted.world.until(OCI_REPOSITORY, "oci", lambda o: condition(o, "Ready").get("status") == "True")
    assert len(issued) > pushing, "the engine had a token"


async def plant_helm(planted: Planted) -> None:
    password = planted.canaries.new("the password of a Helm repository")
    server = await planted.stack.enter_async_context(helm_server())
    server.basic = ("robot", password)
    server.add("app", "1.0.0")
    await planted.secret("helm", username="robot", password=password)
    await planted.object(HELM_REPOSITORY, "charts", url=server.url, secretRef={"name": "helm"})
    source = {"kind": "HelmRepository", "name": "charts"}
    await planted.object(HELM_CHART, "chart", chart="app", version="*", sourceRef=source)


async def plant_buckets(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 with a secret key, and Azure with a signature in the query."""
    key, signature = planted.canaries.new("the secret key of a bucket"), planted.canaries.new("a signature in a query")
    monkeypatch.setattr(s3, "KEYS", AwsKeys("test-access", key))
    server = await planted.stack.enter_async_context(s3.s3_server(planted.directory / "s3"))
    await server.make_bucket("things")
    await server.put("things", "a.yaml", b"a: 1")
    await planted.secret("s3", accesskey="test-access", secretkey=key)
    await planted.object(BUCKET, "s3", endpoint=server.endpoint, bucketName="things", insecure=True,
                         region=s3.REGION, secretRef={"name": "s3"})  # fmt: skip
    store = await planted.stack.enter_async_context(object_store())
    store.sas, store.objects = signature, {"a.yaml": b"a: 1"}
    await planted.secret("azure", sasKey=f"?sv=2021&sig={quote(signature, safe='')}&sp=rl")
    await planted.object(BUCKET, "azure", provider="azure", endpoint=store.url, bucketName="things",
                         secretRef={"name": "azure"})  # fmt: skip


async def plant_keys(planted: Planted) -> None:
    key = (SOPS / "keys" / "one.agekey").read_text().strip().splitlines()[-1]
    planted.canaries.known("an age key", key)
    for what, value in (("a decrypted value", "correct-horse-battery"), ("a patch", "swordfish-swordfish"),
                        ("a patch that fits nothing", "no-such-target-here")):  # fmt: skip
        planted.canaries.known(what, value)
    await planted.secret("age", one__agekey=key)


async def token_of(planted: Planted, name: str) -> str:
    """A token of a service account that may deliver to the namespace."""
    world = planted.world
    await account(world, name)
    await grant(world, name, CONFIG_MAPS, SECRETS, SERVICES)
    path = f"/api/v1/namespaces/{world.namespace}/serviceaccounts/{name}/token"
    body = msgspec.json.encode({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}})
    answer = await world.client.request("POST", path, body=body, content_type="application/json")
    token: str = msgspec.json.decode(answer)["status"]["token"]
    planted.canaries.known("the token of a kubeconfig", token.rpartition(".")[2])
    return token


def kubeconfig(server: str, token: str, authority: str = "") -> str:
    cluster = {"server": server} | ({"certificate-authority-data": authority} if authority else {})
    return yaml.safe_dump({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": cluster}], "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    })  # fmt: skip


async def plant_deliveries(planted: Planted) -> None:
    """Decrypted, substituted, and to a cluster of a kubeconfig."""
    world = planted.world
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "made"}, "stringData": {"k": "${x}"}}
    world.commit(
        {
            "sops/s.yaml": (SOPS / "whole.yaml").read_text(),
            "substituted/s.yaml": secret,
            "remote/a.yaml": config_map("remote"),
        }
    )
    await world.source()
    await planted.secret("variables", x=planted.canaries.new("a substituted value"))
    own = yaml.safe_load(planted.cluster.kubeconfig.read_text())["clusters"][0]["cluster"]
    told = kubeconfig(own["server"], await token_of(planted, "robot"), own["certificate-authority-data"])
    await planted.secret("kubeconfig", value=told)
    await planted.delivery("sops", decryption=DECRYPTION)
    await planted.delivery("substituted", postBuild={"substituteFrom": [{"kind": "Secret", "name": "variables"}]})
    await planted.delivery("remote", kubeConfig={"secretRef": {"name": "kubeconfig"}})


@pytest.mark.spec("SEC-35")
async def test_no_secret_of_any_input_escapes_where_all_goes_well(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted.world.commit({"a.yaml": config_map("a")})
    await plant_git(planted)
    await plant_registry(planted, monkeypatch)
    await plant_helm(planted)
    await plant_buckets(planted, monkeypatch)
    await plant_keys(planted)
    await plant_deliveries(planted)
    await planted.until_all("True")
    made = await planted.world.get("v1", "Secret", "made")
    assert made is not None
    assert "a substituted value" in planted.canaries.within(base64.b64decode(made["data"]["k"])), "they can be found"

    assert planted.canaries.escaped(await planted.places()) == []
    assert await asyncio.to_thread(planted.process.stop) == 0
    assert planted.canaries.escaped(planted.files()) == []


# -- inputs that fail --------------------------------------------------------------------------------------------------


async def echo(request: web.Request) -> web.Response:
    """A server of any kind that refuses, and tells everybody what it was sent."""
    sent = request.headers.get("Authorization", "")
    if not sent:
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="echo"'})
    with contextlib.suppress(ValueError):
        sent += " that is " + base64.b64decode(sent.partition(" ")[2]).decode()
    said = f"{sent} may not see {request.path_qs}"
    if request.path.startswith("/v2/"):
        return web.json_response({"errors": [{"code": "DENIED", "message": said}]}, status=403)
    if request.path.startswith("/api"):
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "message": said,
                  "code": 403}  # fmt: skip
        return web.json_response(status, status=403)
    return web.Response(status=403, text=said, headers={"X-Reason": quote(said), "WWW-Authenticate": quote(said)})


async def echo_server(planted: Planted) -> str:
    """`host:port` of one."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", echo)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    planted.stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return f"127.0.0.1:{runner.addresses[0][1]}"


async def plant_refused_git(planted: Planted, host: str) -> None:
    new = planted.canaries.new
    await planted.secret("basic", username="robot", password=new("the password of git"))
    await planted.secret("bearer", bearerToken=new("the token of git"))
    for name in ("basic", "bearer"):
        await planted.repository(name, f"http://{host}/x.git", secretRef={"name": name})
        await planted.repository(f"{name}-wrong", planted.world.git.url("none.git"), secretRef={"name": name})
    in_url = quote(new("the password in a URL"), safe="")
    for name, url in (("refused", f"{host}/x.git"), ("unreachable", "127.0.0.1:1/x.git"), ("bad", "no host/x.git")):
        await planted.repository(f"url-{name}", f"http://robot:{in_url}@{url}")
    key = asyncssh.generate_private_key("ssh-ed25519")
    wrong, right = new("a passphrase that is wrong"), new("the passphrase of a key")
    identity = key.export_private_key(passphrase=right).decode()
    planted.canaries.known("a private key", identity.splitlines()[2])
    server = SshServer(planted.directory, [])
    await server.start()
    planted.stack.push_async_callback(server.stop)
    known = server.known_hosts().decode()
    for name, passphrase in (("ssh-wrong", wrong), ("ssh-refused", right)):
        await planted.secret(name, identity=identity, known_hosts=known, password=passphrase)
        await planted.repository(name, server.url("app.git", "git"), secretRef={"name": name})
    broken = new("a key that is none")
    await planted.secret("ssh-broken", identity=f"-----BEGIN KEY-----\n{broken}\n", known_hosts=known)
    await planted.repository("ssh-broken", server.url("app.git"), secretRef={"name": "ssh-broken"})


async def plant_refused_proxies(planted: Planted) -> None:
    new, url = planted.canaries.new, planted.world.git.url("app.git")
    proxy = ForwardProxy(("robot", "another"))
    await proxy.start()
    planted.stack.push_async_callback(proxy.stop)
    for name, address in (("unreachable", "http://127.0.0.1:1"), ("refusing", proxy.address.decode())):
        password = new(f"the password of a proxy that is {name}")
        await planted.secret(f"proxy-{name}", address=address, username="robot", password=password)
        await planted.repository(f"proxy-{name}", url, proxySecretRef={"name": f"proxy-{name}"})
    in_url = quote(new("the password in the address of a proxy"), safe="")
    for name, address in (("address", f"http://robot:{in_url}@127.0.0.1:1"), ("scheme", f"ftp://r:{in_url}@h")):
        await planted.secret(f"proxy-{name}", address=address)
        await planted.repository(f"proxy-{name}", url, proxySecretRef={"name": f"proxy-{name}"})


async def plant_refused_sources(planted: Planted, host: str) -> None:
    """Registries, Helm repositories and buckets."""
    new = planted.canaries.new
    config = docker_config(host, "robot", new("the password of a registry"))[".dockerconfigjson"].decode()
    broken = config[:-2] + new("a pull secret that is no JSON")
    for name, text in (("oci", config), ("oci-broken", broken)):
        await planted.secret(name, __dockerconfigjson=text)
        await planted.object(OCI_REPOSITORY, name, url=f"oci://{host}/org/app", insecure=True, secretRef={"name": name})
    await planted.secret("helm", username="robot", password=new("the password of a Helm repository"))
    in_url = quote(new("the password in the URL of a Helm repository"), safe="")
    await planted.object(HELM_REPOSITORY, "helm", url=f"http://{host}", secretRef={"name": "helm"})
    await planted.object(HELM_REPOSITORY, "helm-url", url=f"http://robot:{in_url}@{host}")
    for name in ("helm", "helm-url"):
        source = {"kind": "HelmRepository", "name": name}
        await planted.object(HELM_CHART, name, chart="app", version="*", sourceRef=source)
    await planted.secret("s3", accesskey="test-access", secretkey=new("the secret key of a bucket"))
    signature = quote(new("a signature in a query"), safe="")
    await planted.secret("azure", sasKey=f"?sv=2021&sig={signature}")
    await planted.secret("azure-key", accountKey=new("the account key of a bucket"))
    for name, at in (("refused", host), ("unreachable", "127.0.0.1:1")):
        common = {"endpoint": f"http://{at}", "bucketName": "things", "insecure": True}
        await planted.object(BUCKET, f"s3-{name}", region=s3.REGION, secretRef={"name": "s3"}, **common)
        for key in ("azure", "azure-key"):
            await planted.object(BUCKET, f"{key}-{name}", provider="azure", secretRef={"name": key}, **common)


NAMED = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
         "spec": {"ports": [{"port": 80, "name": "${x}"}]}}  # fmt: skip
LABELED = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "labels": {"k": "${x}"}}}
NO_BASE64 = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "b"}, "data": {"k": "-${x}"}}
NO_MAP = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "m"}, "stringData": ["${x}"]}
TARGET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "target"},
          "type": "kubernetes.io/dockerconfigjson"}  # fmt: skip


def sops(name: str) -> str:
    return (SOPS / name).read_text()


async def plant_refused_deliveries(planted: Planted, host: str) -> None:
    """What the API server refuses of a Secret and by its values, what cannot be built, decrypted, or reached."""
    world, new = planted.world, planted.canaries.new
    clear = new("a value in a file", public=True)
    broken = f"apiVersion: v1\nkind: Secret\nmetadata: {{name: n}}\nstringData:\n  k: {clear}\n k: [{clear}\n"
    tampered = sops("whole.yaml").replace("data:", "data:AAAA", 1)
    patched = {"resources": ["t.yaml"], "patches": [{"path": "p.yaml"}]}
    world.commit({
        "named/a.yaml": NAMED, "labeled/a.yaml": LABELED, "no-base64/a.yaml": NO_BASE64, "no-map/a.yaml": NO_MAP,
        "no-yaml/a.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: n}\nstringData:\n  k: ${y}\n",
        "broken/a.yaml": broken, "clear/a.yaml": msgspec.json.encode(NO_MAP).decode().replace("${x}", clear),
        "tampered/a.yaml": tampered, "stranger/a.yaml": sops("whole.yaml"), "no-key/a.yaml": sops("whole.yaml"),
        "patch/kustomization.yaml": patched, "patch/t.yaml": TARGET, "patch/p.yaml": sops("patch.yaml"),
        "bad-patch/kustomization.yaml": patched, "bad-patch/t.yaml": TARGET, "bad-patch/p.yaml": sops("badpatch.yaml"),
        **{f"{name}/a.yaml": config_map(name) for name in ("echoed", "unknown", "malformed")},
    })  # fmt: skip
    await world.source()
    value = new("a substituted value")
    await planted.secret("variables", x=value, y=f"{value}: [\n{value}")
    substituted = {"postBuild": {"substituteFrom": [{"kind": "Secret", "name": "variables"}]}}
    for name in ("named", "labeled", "no-base64", "no-map", "no-yaml"):
        await planted.delivery(name, **substituted)
    for name in ("broken", "clear"):
        await planted.delivery(name)
    for name in ("tampered", "patch", "bad-patch"):
        await planted.delivery(name, decryption=DECRYPTION)
    await planted.secret("stranger", one__agekey=sops("keys/stranger.agekey"))
    planted.canaries.known("the age key of a stranger", sops("keys/stranger.agekey").strip().splitlines()[-1])
    await planted.secret("no-key", one__agekey=f"AGE-SECRET-KEY-1{new('an age key that is none')}")
    for name in ("stranger", "no-key"):
        await planted.delivery(name, decryption=DECRYPTION | {"secretRef": {"name": name}})
    own = yaml.safe_load(planted.cluster.kubeconfig.read_text())["clusters"][0]["cluster"]
    token = new("the token of a kubeconfig")
    for name, text in (
        ("echoed", kubeconfig(f"http://{host}", token)),
        ("unknown", kubeconfig(own["server"], token, own["certificate-authority-data"])),
        ("malformed", kubeconfig(own["server"], token) + f"token: {token}: ]\n"),
    ):
        await planted.secret(f"kubeconfig-{name}", value=text)
        await planted.delivery(name, kubeConfig={"secretRef": {"name": f"kubeconfig-{name}"}})


@pytest.mark.spec("SEC-35")
async def test_no_secret_of_any_input_escapes_where_everything_fails_and_says_why(planted: Planted) -> None:
    planted.world.commit({"a.yaml": config_map("a")})
    host = await echo_server(planted)
    await plant_keys(planted)
    await plant_refused_git(planted, host)
    await plant_refused_proxies(planted)
    await plant_refused_sources(planted, host)
    await plant_refused_deliveries(planted, host)
    await planted.until_all("False")
    for name in ("named", "labeled", "no-map", "clear", "echoed"):
        ks = await planted.world.get(KUSTOMIZATION.api_version, "Kustomization", name)
        assert "***" in str((ks or {})["status"]), "what was quoted was taken out"

    assert planted.canaries.escaped(await planted.places()) == []
    assert await asyncio.to_thread(planted.process.stop) == 0
    assert planted.canaries.escaped(planted.files()) == []
