"""An example of a source, delivered by `headrace up` from a server of the test, and a consumer that is no part of
headrace: it watches the source by kubectl, fetches what the status names by curl, and unpacks it by tar."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.command_line import CommandLine, Process, until

EXAMPLES = Path(__file__).parents[2] / "examples" / "sources"
NAMESPACE = "flux-system"
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")

_FETCH = "import shutil, sys, urllib.request as u; shutil.copyfileobj(u.urlopen(sys.argv[1]), open(sys.argv[2], 'wb'))"

Json = dict[str, Any]


@dataclass
class Example:
    """A copy of `examples/sources/<name>` below `directory`."""

    line: CommandLine
    directory: Path
    name: str
    process: Process | None = None
    _watches: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        shutil.copytree(EXAMPLES / self.name, self.root)

    @property
    def root(self) -> Path:
        return self.directory / self.name

    def patch(self, kind: str, name: str, values: Mapping[str, Any]) -> None:
        """Set fields by a patch of the example's kustomization.yaml, as its README says."""
        file = self.root / "kustomization.yaml"
        content = yaml.safe_load(file.read_text())
        operations = [{"op": "add", "path": path, "value": value} for path, value in values.items()]
        patch = {"target": {"kind": kind, "name": name}, "patch": yaml.safe_dump(operations)}
        content.setdefault("patches", []).append(patch)
        file.write_text(yaml.safe_dump(content))

    async def once(self) -> None:
        """Deliver until everything is Ready."""
        done = await asyncio.to_thread(self.line, "up", self.root, "--once", "--timeout", "3m", timeout=240)
        assert done.code == 0, done.said

    @contextlib.asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        """Deliver, and go on serving."""
        self.process = self.line.start("up", self.root)
        try:
            await asyncio.to_thread(self.process.until_said, "✔ Kustomization/flux-system/flux-system applied revision")
            yield
        finally:
            for watch in self._watches:
                watch.kill()
            assert await asyncio.to_thread(self.process.stop) == 0

    async def run(self, *argv: str) -> str:
        """A command that must go well."""
        return (await asyncio.to_thread(self.line, *argv)).ok()

    async def delivered(self, wanted: str) -> None:
        """Wait for what the manifests of `app` leave in the cluster."""
        get = ("get", "configmap", "app", "-n", "default", "-o", "jsonpath={.data.version}", "--ignore-not-found")
        await asyncio.to_thread(until, lambda: self.line.kubectl(*get) == wanted, f"delivery of {wanted}")

    async def ready(self, *names: str) -> None:
        """Wait until objects, as `kind/name`, are Ready."""
        await self.run("kubectl", "wait", "-n", NAMESPACE, "--for=condition=Ready", "--timeout=80s", *names)

    def consumer(self, kind: str) -> Consumer:
        """Watch all objects of a kind from now on."""
        watch = self.line.start("kubectl", "get", kind, "-n", NAMESPACE, "--watch", "-o", "json")
        self._watches.append(watch)
        return Consumer(watch, self.directory)


@dataclass
class Consumer:
    """Sees sources as any client of the cluster does."""

    watch: Process
    directory: Path

    async def sees(self, name: str, wanted: Callable[[Json], bool] = lambda artifact: True) -> Json:
        """The object `name` as soon as it is Ready with an artifact like that; its status has upstream's fields."""

        def found() -> Json | None:
            for obj in reversed(_documents(self.watch.log)):
                status = obj.get("status", {})
                if obj["metadata"]["name"] == name and _conditions(status).get("Ready", [""])[0] == "True":
                    return obj if wanted(status["artifact"]) else None
            return None

        obj = await asyncio.to_thread(until, found, f"the artifact of {name}")
        assert obj is not None
        return obj

    async def file(self, artifact: Json) -> Path:
        """What the URL leads to, fetched by another process: of the digest and the size that the status says."""
        file = self.directory / str(artifact["digest"]).replace(":", "-")
        command = ["curl", "-fsS", "-o", str(file), artifact["url"]]
        if shutil.which("curl") is None:
            command = [sys.executable, "-c", _FETCH, artifact["url"], str(file)]
        await asyncio.to_thread(subprocess.run, command, check=True, timeout=60)
        content = file.read_bytes()
        assert artifact["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert artifact["size"] == len(content)
        return file

    async def files(self, artifact: Json) -> dict[str, str]:
        """The files that `tar xz` finds in it."""
        file = await self.file(artifact)
        into = file.with_suffix(".files")
        into.mkdir(exist_ok=True)
        command = ["tar", "xzf", str(file), "-C", str(into)]
        await asyncio.to_thread(subprocess.run, command, check=True, timeout=60)
        return {p.relative_to(into).as_posix(): p.read_text() for p in into.rglob("*") if p.is_file()}


def assert_fields_of_upstream(obj: Json, *, reason: str = "Succeeded", extra: frozenset[str] = frozenset()) -> Json:
    """Returns the artifact of a source, after a look at each field that consumers read. `extra` are fields of the
    status that only this kind has."""
    status, kind = obj["status"], obj["kind"].lower()
    assert set(status) == {"artifact", "conditions", "observedGeneration", "lastHandledReconcileAt"} | extra
    assert status["observedGeneration"] == obj["metadata"]["generation"]
    assert status["lastHandledReconcileAt"] == obj["metadata"]["annotations"]["reconcile.fluxcd.io/requestedAt"]
    assert _conditions(status) == {"Ready": ["True", reason], "ArtifactInStorage": ["True", reason]}
    assert obj["metadata"]["finalizers"] == ["finalizers.fluxcd.io"]
    return assert_artifact(status["artifact"], f"{kind}/{NAMESPACE}/{obj['metadata']['name']}/")


def assert_artifact(artifact: Json, place: str) -> Json:
    """Returns it, after a look at each field."""
    assert set(artifact) - {"metadata"} == {"digest", "lastUpdateTime", "path", "revision", "size", "url"}
    assert artifact["path"].startswith(place)
    assert artifact["url"].startswith("http://")
    assert artifact["url"].endswith("/" + artifact["path"])
    assert RFC3339.fullmatch(artifact["lastUpdateTime"])
    return artifact


def app(version: str) -> dict[str, str]:
    """Manifests of which a ConfigMap `app` says the version, and a Deployment has to become ready."""
    labels = {"app": "app"}
    container = {"name": "app", "image": f"registry.example.com/app:{version.replace(' ', '-')}"}
    deployment = {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app"},
        "spec": {"selector": {"matchLabels": labels},
                 "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}}},
    }  # fmt: skip
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "app"}, "data": {"version": version}}
    kustomization = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
                     "resources": ["config.yaml", "deployment.yaml"]}  # fmt: skip
    found = {"kustomization.yaml": kustomization, "config.yaml": config, "deployment.yaml": deployment}
    return {name: yaml.safe_dump(content) for name, content in found.items()}


def below(directory: str, files: Mapping[str, str]) -> dict[str, str]:
    return {f"{directory}/{name}": content for name, content in files.items()}


def _documents(text: str) -> list[Json]:
    """What `kubectl get --watch -o json` has printed so far; the last document may not be whole yet."""
    decoder, found, at = json.JSONDecoder(), [], text.find("{")
    while at >= 0:
        try:
            document, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError:
            break
        found.append(document)
        at = text.find("{", end)
    return found


def _conditions(status: Json) -> dict[str, list[str]]:
    return {one["type"]: [one["status"], one["reason"]] for one in status.get("conditions", ())}
