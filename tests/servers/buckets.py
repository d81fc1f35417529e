"""Buckets as the engine has them, without an engine: a store, the controller, and Secrets out of a dictionary."""

from __future__ import annotations

import contextlib
import tarfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import msgspec

from headrace.api.bucket import Bucket
from headrace.artifact.store import Store
from headrace.artifact.trees import Trees
from headrace.controllers.bucket.access import BucketAccess
from headrace.controllers.bucket.bucket import BucketController
from headrace.controllers.workload import WorkloadPolicy
from headrace.core.clock import Clock, SystemClock, rfc3339
from headrace.core.egress import Egress, EgressPolicy
from headrace.identity.accounts import Accounts
from headrace.identity.cache import TokenCache
from headrace.identity.identities import Identities, operators_policy
from headrace.model.artifact import Artifact
from headrace.model.errors import StepError
from headrace.model.objects import LiveObject, Metadata
from headrace.model.outcome import Outcome
from headrace.model.reference import Reference
from headrace.model.trace import Cause
from tests.servers.sources import REQUESTED, RecordedScope


@dataclass
class Buckets:
    """One engine's worth of buckets. `spec` is what every object has unless it says otherwise."""

    store: Store
    controller: BucketController
    spec: dict[str, Any]
    objects: dict[Reference, LiveObject] = field(default_factory=dict)
    scope: RecordedScope | None = None

    def secret(self, name: str, data: Mapping[str, bytes], namespace: str = "default") -> None:
        body = {"metadata": {"name": name, "namespace": namespace, "uid": "1"}, "data": data}
        reference = Reference("", "Secret", namespace, name)
        metadata = Metadata(name=name, namespace=namespace, uid="1")
        self.objects[reference] = LiveObject(reference, "v1", metadata, msgspec.json.encode(body))

    def object(self, name: str = "app", **spec: Any) -> Bucket:
        """A Bucket as the API server would hold it; `spec` in the form of the API."""
        metadata = {
            "name": name, "namespace": "default", "generation": 1, "creationTimestamp": rfc3339(SystemClock().now()),
        }  # fmt: skip
        body = {"metadata": metadata, "spec": {"interval": "1m"} | self.spec | spec}
        return msgspec.json.decode(msgspec.json.encode(body), type=Bucket)

    async def run(self, obj: Bucket, causes: tuple[Cause, ...] = REQUESTED) -> tuple[Bucket, Outcome]:
        """Reconcile as if a person asked; returns the object with its new status, and the outcome. Raises StepError."""
        reference = self.controller.kind.reference(obj.metadata.namespace, obj.metadata.name)
        live = LiveObject(reference, self.controller.kind.api_version, obj.metadata, b"{}")
        self.scope = RecordedScope(live, causes, self.objects)
        outcome = await self.controller.reconcile(obj, self.scope)
        return _with_status(obj, outcome.status), outcome

    async def failure(self, obj: Bucket) -> StepError:
        """The StepError of a run that must fail."""
        try:
            _, outcome = await self.run(obj)
        except StepError as error:
            return error
        raise AssertionError(f"the run succeeded: {outcome.message}")

    def files(self, artifact: Artifact | None) -> dict[str, bytes]:
        """What is in a stored artifact."""
        assert artifact is not None
        with tarfile.open(self.store.root / artifact.path) as tar:
            found = {member.name: tar.extractfile(member) for member in tar if member.isfile()}
            return {name: file.read() for name, file in found.items() if file is not None}


def _with_status(obj: Bucket, change: Mapping[str, object]) -> Bucket:
    content = msgspec.to_builtins(obj)
    status = {**content.get("status", {}), **change}
    content["status"] = {key: value for key, value in status.items() if value is not None}
    return msgspec.convert(content, Bucket)


@contextlib.asynccontextmanager
async def buckets(
    directory: Path, *, clock: Clock | None = None, policy: EgressPolicy | None = None,
    environment: Mapping[str, str] | None = None, accounts: Any = None, workload: WorkloadPolicy | None = None,
    algorithm: str = "sha256", **spec: Any,
) -> AsyncIterator[Buckets]:  # fmt: skip
    """Everything made below `directory`, closed at the end. No account of a cluster exists unless one is given."""
    clock, environment = clock or SystemClock(), environment or {}
    egress = Egress(policy or EgressPolicy(allow_loopback=True))
    operators = Egress(operators_policy(environment))
    store = Store(directory / "data", "source.example:9090", clock, algorithm=algorithm)
    identities = Identities(cast("Accounts", accounts), operators, egress, environment, clock, TokenCache(clock))
    access = BucketAccess(egress, clock, identities, workload or WorkloadPolicy(), key=b"k" * 32)
    changed: list[tuple[Reference, str, str]] = []
    try:
        controller = BucketController(access, store, Trees(store, clock), clock, lambda *moved: changed.append(moved))
        yield Buckets(store, controller, spec)
    finally:
        await egress.close()
        await operators.close()
