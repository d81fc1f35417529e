"""One toolbox child: frames in and out, answers to the calls that wait for them, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import msgspec

from headrace.toolbox.errors import ToolboxCrashed, ToolboxError
from headrace.toolbox.frames import AnswerHeader, FrameTooLarge, RequestHeader, Splitter, encode

log = logging.getLogger("headrace.toolbox")

MEMORY_EXIT = 77
"""Exit code of a child that ended itself because it used too much memory."""

_STUCK_SECONDS = 2.0
"""How long after its deadline a child may take to say that a call timed out."""
_ERRORS_KEPT = 4096
_PAGE = os.sysconf("SC_PAGESIZE")

Answer = tuple[AnswerHeader, bytes]


@dataclass(slots=True)
class _Pending:
    """A call in the child. It stays here when its caller has gone, since the child still works on it."""

    future: asyncio.Future[Answer]
    name: str
    finished: Callable[[], None]
    guard: asyncio.TimerHandle | None = None


@dataclass(slots=True, eq=False)
class Child(asyncio.SubprocessProtocol):
    """A running child. Made by start_child; `ended` is set once nothing of it is left."""

    ended: asyncio.Event = field(default_factory=asyncio.Event)
    builds: int = 0
    """Builds begun in the child's life."""
    building: bool = False
    retired: bool = False
    """Takes no further calls; ends itself after those it has."""
    _transport: asyncio.SubprocessTransport | None = None
    _pending: dict[int, _Pending] = field(default_factory=dict)
    _splitter: Splitter = field(default_factory=Splitter)
    _errors: bytes = b""
    _reason: str = ""
    _number: int = 0

    # --- asyncio's side --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd != 1:
            self._errors = (self._errors + data)[-_ERRORS_KEPT:]
            return
        try:
            for answer in self._splitter.feed(data):
                self._answered(answer)
        except (FrameTooLarge, msgspec.DecodeError) as error:
            self.kill(f"the toolbox answered nonsense: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        """All pipes are closed and the process has been waited for."""
        assert self._transport is not None
        code = self._transport.get_returncode()
        self._transport.close()
        if self._errors and (self._pending or code):
            log.warning("toolbox child ended with code %s: %s", code, self._errors.decode(errors="replace").strip())
        crash = ToolboxCrashed(self._reason or _explain(code))
        while self._pending:
            _, pending = self._pending.popitem()
            self._finish(pending, error=crash)
        self.ended.set()

    # --- the pool's side -------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        assert self._transport is not None
        return self._transport.get_pid()

    @property
    def load(self) -> int:
        """Calls in the child."""
        return len(self._pending)

    @property
    def usable(self) -> bool:
        return not self.retired and not self._reason and not self.ended.is_set()

    @property
    def memory(self) -> int:
        """Resident bytes that are the child's own, without the shared pages of the binary."""
        try:
            fields = Path(f"/proc/{self.pid}/statm").read_bytes().split()
        except OSError:
            return 0
        return (int(fields[1]) - int(fields[2])) * _PAGE

    def send(
        self, name: str, args: msgspec.Raw, body: bytes, timeout: float, finished: Callable[[], None]
    ) -> asyncio.Future[Answer]:
        """Send a call. `finished` is called exactly once, when the child no longer works on it.

        Raises ToolboxError when the call is too large.
        """
        self._number += 1
        header = RequestHeader(self._number, name, args, round(timeout * 1000))
        try:
            frame = encode(header, body)
        except FrameTooLarge as error:
            raise ToolboxError("LimitExceeded", str(error)) from None
        loop = asyncio.get_running_loop()
        pending = _Pending(loop.create_future(), name, finished)
        pending.guard = loop.call_later(timeout + _STUCK_SECONDS, self._stuck, pending)
        self._pending[header.id] = pending
        self._stdin().writelines(part for part in frame if part)
        return pending.future

    def retire(self) -> None:
        """End after the calls in the child, at once when there are none."""
        self.retired = True
        if not self._pending:
            self._stdin().close()

    def kill(self, reason: str) -> None:
        """End now, with everything the child may have started; calls in it fail with `reason`."""
        self._reason = self._reason or reason
        if self._transport is None or self.ended.is_set():
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    async def stop(self, grace: float) -> None:
        """End, politely for `grace` seconds."""
        self.retired = True
        if not self.ended.is_set():
            self._stdin().close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ended.wait(), grace)
        self.kill("the toolbox was stopped")
        await self.ended.wait()

    # --- inside ----------------------------------------------------------------------------------------------------

    def _stdin(self) -> asyncio.WriteTransport:
        assert self._transport is not None
        return cast(asyncio.WriteTransport, self._transport.get_pipe_transport(0))

    def _answered(self, answer: Answer) -> None:
        header, _ = answer
        pending = self._pending.pop(header.id, None)
        if pending is None:
            return
        if header.error is None:
            self._finish(pending, answer)
        else:
            told = header.error
            self._finish(pending, error=ToolboxError(
                told.code, told.message, file=told.file, object=told.object, identities=told.identities))
            if told.code == "Timeout":
                # The work goes on in the child, and nothing but its end stops it.
                self.kill(f"another call, {pending.name}, took too long")
        if self.retired and not self._pending:
            self._stdin().close()

    def _finish(self, pending: _Pending, answer: Answer | None = None, *, error: ToolboxError | None = None) -> None:
        if pending.guard is not None:
            pending.guard.cancel()
        if not pending.future.done():
            if answer is not None:
                pending.future.set_result(answer)
            elif error is not None:
                pending.future.set_exception(error)
        pending.finished()

    def _stuck(self, pending: _Pending) -> None:
        if not pending.future.done():
            pending.future.set_exception(ToolboxError("Timeout", f"{pending.name} took too long"))
        self.kill(f"another call, {pending.name}, took too long")


def _explain(code: int | None) -> str:
    if code == MEMORY_EXIT:
        return "the toolbox used more memory than it may"
    if code is not None and code < 0:
        return f"the toolbox was ended by signal {-code}"
    return f"the toolbox ended unexpectedly (exit code {code})"


async def start_child(binary: Path, arguments: list[str], environment: Mapping[str, str]) -> Child:
    """Start a toolbox in a session of its own. It ends itself when its standard input closes, so also with us."""
    loop = asyncio.get_running_loop()
    _, child = await loop.subprocess_exec(
        Child, str(binary), "serve", *arguments, env=dict(environment), cwd="/", start_new_session=True
    )
    return child
