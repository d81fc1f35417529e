"""Which cluster a command talks to, and a client for it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from headrace.api.kinds import KindInfo
from headrace.cli import paths
from headrace.cli.exits import FAILED, NOT_FOUND, UNREACHABLE, USAGE, CommandError
from headrace.kube.client import JSON, Client
from headrace.kube.config import ClientConfig, default_config, load_kubeconfig
from headrace.kube.discovery import Discovery
from headrace.kube.errors import (
    ApiError,
    ConfigError,
    Forbidden,
    Gone,
    KubeError,
    NoMatch,
    NotFound,
    Timeout,
    Unreachable,
)
from headrace.kube.lines import LineSplitter
from headrace.kube.objects import decode_object
from headrace.kube.resource import Resource
from headrace.model.objects import LiveObject
from headrace.model.reference import Reference

DEFAULT_NAMESPACE = "flux-system"
FIELD_MANAGER = "headrace-cli"
_LONGEST_EVENT = 16 * 1024 * 1024
_SILENCE = 30.0
"""Seconds without an event after which the object is read again: a connection may die without a sign."""


@dataclass(frozen=True, slots=True)
class Target:
    """The options that every command about a cluster has. An empty namespace means all of them."""

    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str = DEFAULT_NAMESPACE


def client_config(kubeconfig: Path | None, context: str | None) -> ClientConfig:
    """What `--kubeconfig`, `--context` and KUBECONFIG say; else the cluster of `headrace up` when there is one, before
    `~/.kube/config`: who runs `up` means that cluster, and a command that changes something must not reach another.

    Raises CommandError(UNREACHABLE) when there is no cluster to talk to.
    """
    try:
        if kubeconfig is None and context is None and "KUBECONFIG" not in os.environ and paths.kubeconfig().exists():
            return load_kubeconfig(paths.kubeconfig(), trusted=True)
        return default_config(kubeconfig, context)
    except (ConfigError, OSError) as error:
        raise CommandError(str(error), UNREACHABLE) from None


class Connection:
    """One cluster, as commands use it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.discovery = Discovery(client)

    async def get(self, info: KindInfo[Any], namespace: str, name: str) -> LiveObject:
        """An object of ours. Raises NotFound."""
        return await self.client.get(resource_of(info), namespace, name)

    async def list(self, info: KindInfo[Any], namespace: str) -> tuple[LiveObject, ...]:
        """The objects of one of our kinds, of all namespaces when `namespace` is empty, ordered by name.
        Empty when the cluster does not serve the kind."""
        try:
            listing = await self.client.list(resource_of(info), namespace)
        except NotFound:
            return ()
        return tuple(sorted(listing.items, key=lambda live: live.reference))

    async def find(self, reference: Reference) -> LiveObject | None:
        """Any object; None when it does not exist. Raises NoMatch for a kind that is not served."""
        resource = await self.discovery.resource(reference.group, reference.kind)
        try:
            return await self.client.get(resource, reference.namespace, reference.name)
        except NotFound:
            return None

    async def watch(self, info: KindInfo[Any], namespace: str, name: str) -> AsyncIterator[LiveObject]:
        """An object of ours as it is, and again at each change. Raises NotFound when it is not there (any more)."""
        while True:
            live = await self.get(info, namespace, name)
            yield live
            async for changed in self._events(resource_of(info), live):
                yield changed

    async def _events(self, resource: Resource, live: LiveObject) -> AsyncIterator[LiveObject]:
        """The changes after `live` until the watch ends, for whatever reason: then the object is read again."""
        query = {"watch": "1", "fieldSelector": f"metadata.name={live.metadata.name}",
                 "resourceVersion": live.metadata.resource_version}  # fmt: skip
        splitter = LineSplitter(_LONGEST_EVENT)
        path = resource.collection(live.metadata.namespace)
        with contextlib.suppress(Unreachable, Timeout, Gone):
            async with self.client.stream(path, query=query, accept=JSON, silence=_SILENCE) as chunks:
                async for chunk in chunks:
                    for line in splitter.feed(chunk):
                        event = msgspec.json.decode(line, type=_Event)
                        if event.type not in ("ADDED", "MODIFIED"):
                            return
                        yield decode_object(bytes(event.object), resource, cluster="", partial=False)


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


def resource_of(info: KindInfo[Any]) -> Resource:
    """How one of our kinds is served: known without asking."""
    return Resource(info.group, info.storage_version, info.kind, info.plural, namespaced=True)


@contextlib.asynccontextmanager
async def connect(target: Target) -> AsyncIterator[Connection]:
    """A connection while the context is open. Errors of the cluster leave as CommandErrors."""
    config = client_config(target.kubeconfig, target.context)
    with cluster_errors(config.server):
        async with Client(config, user_agent="headrace-cli") as client:
            yield Connection(client)


@contextlib.contextmanager
def cluster_errors(server: str) -> Iterator[None]:
    """Turns what a cluster answers into what the user reads and the exit code of the command."""
    try:
        yield
    except Unreachable as error:
        raise CommandError(f"{server} does not answer: {error}", UNREACHABLE) from None
    except NotFound as error:
        text = str(error) if error.reason else "headrace is not installed in this cluster (headrace install)"
        raise CommandError(text, NOT_FOUND) from None
    except NoMatch as error:
        raise CommandError(f"{error}: headrace is not installed in this cluster", NOT_FOUND) from None
    except Forbidden as error:
        raise CommandError(str(error), FAILED) from None
    except ConfigError as error:
        raise CommandError(str(error), USAGE) from None
    except ApiError as error:
        raise CommandError(f"the API server answered {error.status}: {error}", FAILED) from None
    except KubeError as error:
        raise CommandError(str(error), UNREACHABLE) from None
