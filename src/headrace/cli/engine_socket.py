"""Asks the engine of this user over its Unix socket. Everything here is optional: without an engine, None."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TypeVar

import msgspec

from headrace.cli import paths
from headrace.edge.state import EngineInfo, ObjectAnswer
from headrace.model.reference import Reference

_TIMEOUT_SECONDS = 2.0
T = TypeVar("T")


class EngineSocket:
    """The engine that serves the cluster at `server`, if it is one of this user and it answers."""

    def __init__(self, server: str, socket: Path | None = None) -> None:
        import aiohttp

        self._server = server
        self._path = socket or paths.socket(server)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(self._path)), timeout=aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
        )
        self._info: EngineInfo | None = None

    async def __aenter__(self) -> EngineSocket:
        """Find out whether the right engine answers."""
        info = await self._get("/v1/engine", EngineInfo)
        self._info = info if info is not None and info.server == self._server else None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    @property
    def info(self) -> EngineInfo | None:
        """Who answers; None when nobody does, or an engine of another cluster."""
        return self._info

    async def object(self, reference: Reference) -> ObjectAnswer | None:
        """What the engine knows of an object."""
        if self._info is None:
            return None
        path = f"/v1/objects/{reference.kind}/{reference.namespace}/{reference.name}"
        return await self._get(path, ObjectAnswer)

    async def _get(self, path: str, kind: type[T]) -> T | None:
        import aiohttp

        try:
            async with self._session.get(f"http://engine{path}") as answer:
                return msgspec.json.decode(await answer.read(), type=kind) if answer.status == 200 else None
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.MsgspecError):
            return None
