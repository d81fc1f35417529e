"""The pool: picks a child for each call, replaces children that died, grew or timed out, and types the calls."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from headrace.toolbox.binary import VARIABLE, ToolboxUnfit, find_toolbox
from headrace.toolbox.child import Answer, Child, start_child
from headrace.toolbox.errors import ToolboxCrashed, ToolboxError
from headrace.toolbox.messages import (
    BuildKeys,
    BuildRequest,
    BuildResult,
    Built,
    CelAsk,
    CelResult,
    KeylessRequest,
    KeylessResult,
    KeyServices,
    Limits,
    NotationRequest,
    NotationResult,
    SemverMatch,
)
from headrace.toolbox.versions import differences

MIB = 1024 * 1024
_STOP_GRACE = 1.0
_ENVIRONMENT = {"PATH": "", "HOME": "/nonexistent", "LANG": "C.UTF-8"}
_NETWORK_ENVIRONMENT = {
    **_ENVIRONMENT,
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_CONFIG_NOSYSTEM": "1",
}
_CHECK_SECONDS = 30.0
"""How long the first child may take to start and to tell its versions."""
_CHECK_EVERY = 8
"""Builds between two looks at a child's memory."""
PATIENCE = 3.0
"""Seconds that a build waits for its turn before another child is started for it. Most builds take milliseconds, and a
child that builds has 30 MiB of its own; those that take minutes must not hold up all others."""


class _Group:
    """Children of one kind, started when they are first needed, `size` at most. Each runs one build at a time; one
    builds until somebody has waited long, then more."""

    def __init__(self, binary: Path, size: int, arguments: list[str], environment: Mapping[str, str]) -> None:
        self.binary = binary
        self._size = size
        self._arguments = arguments
        self._environment = environment
        self._children: list[Child] = []
        self._starting = asyncio.Lock()
        self._builders = 1
        self._builds = asyncio.Semaphore(self._builders)
        self._build_limit = 0
        self._memory_limit = 0

    def limit(self, builds: int, memory: int) -> None:
        """Replace a child after so many builds, or when it has grown to so many bytes."""
        self._build_limit, self._memory_limit = builds, memory

    async def build(self, args: msgspec.Raw, body: bytes, timeout: float) -> Answer:
        """A build, when a child is free for it; the wait does not count against the timeout."""
        await self._turn()
        try:
            child = await self._pick(free=True)
            child.building = True
            child.builds += 1
            future = child.send("build", args, body, timeout, lambda: self._built(child))
        except BaseException:
            self._builds.release()
            raise
        return await future

    async def _turn(self) -> None:
        """Return when there may be one build more; `_builds` has as many places as children build."""
        try:
            async with asyncio.timeout(PATIENCE if self._builders < self._size else None):
                await self._builds.acquire()
        except TimeoutError:
            if self._builders < self._size:
                self._builders += 1
            else:
                await self._builds.acquire()

    def _built(self, child: Child) -> None:
        child.building = False
        self._builds.release()
        if not child.usable:
            return
        grown = child.builds % _CHECK_EVERY == 0 and child.memory > self._memory_limit
        if grown or child.builds >= self._build_limit:
            child.retire()

    async def call(self, name: str, args: msgspec.Raw, body: bytes, timeout: float) -> Answer:
        """Any other call. It changes nothing, so one that dies of a neighbour's fault is sent again, once."""
        try:
            return await self._call_once(name, args, body, timeout)
        except ToolboxCrashed:
            return await self._call_once(name, args, body, timeout)

    async def _call_once(self, name: str, args: msgspec.Raw, body: bytes, timeout: float) -> Answer:
        child = await self._pick(free=False)
        return await child.send(name, args, body, timeout, lambda: None)

    async def _pick(self, *, free: bool) -> Child:
        """The least busy child, or a new one while there are fewer than there may be and it is needed."""
        async with self._starting:
            self._children = [child for child in self._children if not child.ended.is_set()]
            usable = [child for child in self._children if child.usable]
            candidates = [child for child in usable if not (free and child.building)]
            idle = any(child.load == 0 for child in candidates)
            if not candidates or (len(usable) < self._size and not idle):
                child = await start_child(self.binary, self._arguments, self._environment)
                self._children.append(child)
                return child
            return min(candidates, key=lambda child: (child.building, child.load))

    async def stop(self) -> None:
        async with self._starting:
            children, self._children = self._children, []
            async with asyncio.TaskGroup() as group:
                for child in children:
                    group.create_task(child.stop(_STOP_GRACE))

    @property
    def pids(self) -> list[int]:
        return [child.pid for child in self._children if not child.ended.is_set()]


class Toolbox:
    """The toolbox as an async context manager; calls are methods. No child is left when the context is.

    `size` children of each kind at most, one build at a time in each. A child ends itself beyond `memory_limit` bytes,
    and is replaced after `build_limit` builds or when it holds `memory_limit / 2` after one. With `network` (a folder
    that nobody else writes), builds that may have remote bases run in a child of their own with that as scratch;
    without, they fail with NeedsNetwork if they have one. With `key_services`, builds that come with credentials for
    one run in a child that may call it, apart from all others: a service that is slow holds up only those.
    """

    def __init__(
        self,
        binary: Path | None = None,
        *,
        size: int = 2,
        memory_limit: int = 1024 * MIB,
        build_limit: int = 5000,
        timeout: float = 60.0,
        network: Path | None = None,
        key_services: KeyServices | None = None,
    ) -> None:
        self._binary = binary
        self._size = size
        self._memory_limit = memory_limit
        self._build_limit = build_limit
        self._timeout = timeout
        self._network = network
        self._key_services = key_services
        self._group: _Group | None = None
        self._remote: _Group | None = None
        self._keyed: _Group | None = None

    async def __aenter__(self) -> Self:
        binary = self._binary or find_toolbox()
        limit = f"--memory-limit={self._memory_limit}"
        builder, environment = [limit, "--builds"], _ENVIRONMENT
        if self._network is not None:
            # What builds is nearly always another group: these children do without the schema of builds, 20 MiB each.
            self._group = self._made(binary, self._size, [limit], environment)
            builder.append(f"--network={self._network.absolute()}")
            environment = _NETWORK_ENVIRONMENT
            self._remote = self._made(binary, self._size, builder, environment)
        else:
            self._group = self._made(binary, self._size, builder, environment)
        if self._key_services is not None:
            told = msgspec.json.encode(self._key_services).decode()
            self._keyed = self._made(binary, self._size, [*builder, f"--key-services={told}"], environment)
        return self

    def _made(self, binary: Path, size: int, arguments: list[str], environment: Mapping[str, str]) -> _Group:
        group = _Group(binary, size, arguments, environment)
        group.limit(self._build_limit, self._memory_limit // 2)
        return group

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for group in self._groups():
            await group.stop()
        self._group = self._remote = self._keyed = None

    def _groups(self) -> Iterator[_Group]:
        return (group for group in (self._group, self._remote, self._keyed) if group is not None)

    @property
    def pids(self) -> list[int]:
        """Process ids of the children, for metrics."""
        return [pid for group in self._groups() for pid in group.pids]

    async def build(
        self, request: BuildRequest, *, keys: BuildKeys | None = None, timeout: float | None = None
    ) -> Built:
        """Objects of a folder, as Flux's kustomize-controller builds them, decrypted with `keys`.

        Raises ToolboxError: PathNotFound, InvalidYAML, BuildFailed, SubstituteFailed, LimitExceeded, NeedsNetwork,
        Timeout, Panic; ToolboxCrashed.
        """
        told = msgspec.json.encode(keys) if keys is not None else b""
        header, body = await self._builder(request, keys).build(_raw(request), told, timeout or self._timeout)
        result = msgspec.json.decode(header.result, type=BuildResult)
        return Built(result.objects, result.reads, result.remote, result.digest, body)

    def _builder(self, request: BuildRequest, keys: BuildKeys | None) -> _Group:
        if keys is not None and keys.call_services and self._keyed is not None:
            return self._keyed
        return self._remote if request.allow_remote and self._remote is not None else self._running()

    async def yaml_to_json(
        self, text: bytes, *, strict: bool = False, limits: Limits | None = None, timeout: float | None = None
    ) -> bytes:
        """A JSON array of the documents of `text`, read as kubectl reads YAML; empty documents are left out.

        `strict` refuses a key that is there twice. Raises ToolboxError: InvalidYAML (naming the document),
        LimitExceeded.
        """
        args = {"limits": limits or Limits(), "strict": strict}
        _, body = await self._call("yaml_to_json", args, text, timeout)
        return body

    async def substitute(
        self, text: str, variables: Mapping[str, str], *, strict: bool = True, timeout: float | None = None
    ) -> str:
        """`text` with its ${variables} replaced. Raises ToolboxError: SubstituteFailed, LimitExceeded."""
        args = {"variables": variables, "strict": strict}
        _, body = await self._call("substitute", args, text.encode(), timeout)
        return body.decode()

    async def semver(
        self,
        constraint: str,
        versions: Sequence[str],
        *,
        pattern: str = "",
        strict_parts: bool = False,
        timeout: float | None = None,
    ) -> SemverMatch:
        """The `versions` that satisfy `constraint`, best first. Those that are no versions are left out, as are
        those that the regular expression `pattern` does not match, with `strict_parts` also those of less than
        three parts. Raises ToolboxError: InvalidArgument."""
        args = {"constraint": constraint, "versions": versions, "filter": pattern, "strict_parts": strict_parts}
        header, _ = await self._call("semver", args, b"", timeout)
        return msgspec.json.decode(header.result, type=SemverMatch)

    async def verify_keyless(self, request: KeylessRequest, *, timeout: float | None = None) -> KeylessResult:
        """Verify Sigstore bundles of an artifact by a trusted root. Nobody is asked anything. Raises ToolboxError:
        InvalidArgument for a root or an expression that cannot be used."""
        header, _ = await self._call("verify_keyless", request, b"", timeout)
        return msgspec.json.decode(header.result, type=KeylessResult)

    async def verify_notation(self, request: NotationRequest, *, timeout: float | None = None) -> NotationResult:
        """Verify signatures of the Notary project by a trust policy. Nobody is asked anything, so certificates that
        could be revoked are not known to be good. Raises ToolboxError: InvalidArgument for a policy or certificates
        that cannot be used."""
        header, _ = await self._call("verify_notation", request, b"", timeout)
        return msgspec.json.decode(header.result, type=NotationResult)

    async def cel(
        self,
        expressions: Sequence[str],
        inputs: Sequence[bytes] = (),
        asks: Sequence[CelAsk] = (),
        *,
        variables: Sequence[str] = (),
        timeout: float | None = None,
    ) -> CelResult:
        """Compile CEL expressions and, when all are valid, evaluate them over JSON objects that hold the variables.

        With `variables` (each an object of any shape) they are type-checked and must be boolean; without, they see
        the input's fields and are only parsed. Cost and time of each evaluation are limited (SEC-43).
        """
        args = {"expressions": expressions, "variables": variables, "asks": asks}
        header, _ = await self._call("cel", args, b"[" + b",".join(inputs) + b"]", timeout)
        return msgspec.json.decode(header.result, type=CelResult)

    async def version(self, *, timeout: float | None = None) -> dict[str, str]:
        """Versions of the libraries in the binary, as a child tells them that builds: it will be needed anyway, and
        each takes 50 MiB."""
        group = self._remote or self._running()
        header, _ = await group.call("version", _raw({}), b"", timeout or self._timeout)
        return msgspec.json.decode(header.result, type=dict[str, str])

    async def check(self) -> None:
        """Return when a child runs and holds the libraries that it should. Raises ToolboxUnfit."""
        binary, cure = self._running().binary, f"run `make build`, or correct {VARIABLE}"
        try:
            wrong = differences(await self.version(timeout=_CHECK_SECONDS))
        except (ToolboxError, OSError, msgspec.MsgspecError) as error:
            raise ToolboxUnfit(f"{binary} does not work as a toolbox: {error}: {cure}") from None
        if wrong:
            raise ToolboxUnfit(f"{binary} is of another version: {', '.join(wrong)}: {cure}")

    async def ping(self, *, timeout: float | None = None) -> None:
        """Return when a child answers."""
        await self._call("ping", {}, b"", timeout)

    async def _call(self, name: str, args: object, body: bytes, timeout: float | None) -> Answer:
        return await self._running().call(name, _raw(args), body, timeout or self._timeout)

    def _running(self) -> _Group:
        if self._group is None:
            raise ToolboxError("Internal", "the toolbox is not running")
        return self._group


def _raw(args: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(args))
