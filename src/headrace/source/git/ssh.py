"""Git over SSH: one encrypted connection for each server and identity, on which polls and fetches are commands.

Keys stay in memory: no agent, no file, no configuration of the machine. The host key must be one of the Secret's
`known_hosts`; nothing is trusted at first sight (SEC-32). git itself is given a socket of ours instead of a client.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import shlex
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

import asyncssh

from headrace.core.egress import Egress, EgressDenied, RemoteUrl
from headrace.core.limits import MIB
from headrace.source.access import joined
from headrace.source.git import bridge
from headrace.source.git.credentials import SshIdentity
from headrace.source.git.errors import AuthenticationRequired, GitError
from headrace.source.git.pktline import FLUSH, ls_refs_request, parse_advertisement, parse_ls_refs
from headrace.source.git.refs import RefTarget
from headrace.source.git.ssh_algorithms import ANY, SshAlgorithms
from headrace.source.git.transport import GitAccess

logging.getLogger("asyncssh").setLevel(logging.WARNING)
"""It tells of every connection and command at the level of information."""

_AGENT = "headrace"
_SERVICE = "git-upload-pack"
_SSH_PORT = 22
_REFS_BYTES = 64 * MIB
"""The largest list of refs that is read (SEC-10)."""
_CHUNK = 256 * 1024
_SESSIONS = 8
"""Commands at a time on one connection; sshd refuses more than ten."""
_CONNECT_SECONDS = 30.0
_IDLE = 300.0
"""Seconds after which a connection that nobody uses is closed."""
_KEEPALIVE_SECONDS = 60

Process = asyncssh.SSHClientProcess[bytes]
KnownKeys = tuple[list[asyncssh.SSHKey], list[asyncssh.SSHKey], list[asyncssh.SSHKey]]


class _Connection:
    """The connection to one server with one identity, made when it is needed."""

    def __init__(
        self, url: RemoteUrl, identity: SshIdentity, egress: Egress, proxy: RemoteUrl | None, algorithms: SshAlgorithms
    ) -> None:
        self._algorithms = algorithms
        self._url = url
        self._identity = identity
        self._egress = egress
        self._proxy = proxy
        self._open: asyncssh.SSHClientConnection | None = None
        self._connecting = asyncio.Lock()
        self._slots = asyncio.Semaphore(_SESSIONS)
        self._users = 0
        self._closing: asyncio.TimerHandle | None = None

    @contextlib.asynccontextmanager
    async def command(self, command: str) -> AsyncIterator[Process]:
        """Run a command on the server; it ends with the context. Raises asyncssh.Error, OSError, EgressDenied."""
        self._users += 1
        try:
            async with self._slots:
                process = await self._start(command)
                try:
                    yield process
                finally:
                    process.close()
        finally:
            self._users -= 1
            self._close_later()

    async def _start(self, command: str) -> Process:
        """On a connection that was there before, a failure may be that of the connection: once more on a new one."""
        before = self._open
        try:
            return await self._run(await self._connected(), command)
        except (asyncssh.ChannelOpenError, asyncssh.ConnectionLost, asyncssh.DisconnectError, OSError):
            if before is None or before is not self._open:
                raise
        self.close()
        return await self._run(await self._connected(), command)

    async def _run(self, connection: asyncssh.SSHClientConnection, command: str) -> Process:
        return await connection.create_process(command, env={"GIT_PROTOCOL": "version=2"}, encoding=None)

    async def _connected(self) -> asyncssh.SSHClientConnection:
        async with self._connecting:
            if self._open is None or self._open.is_closed():
                self._open = await self._connect()
            return self._open

    async def _connect(self) -> asyncssh.SSHClientConnection:
        """Connect to the very address that was checked (SEC-29), under the name that known_hosts has.

        By way of a proxy it is the proxy's address that is checked; the proxy finds the server itself (SRC-COM-31).
        """
        key = await asyncio.to_thread(_private_key, self._identity)
        known = _known_keys(self._identity.known_hosts, self._url)
        tunnel = None
        if self._proxy is None:
            address = await self._egress.resolve(self._url)
        else:
            address = self._url.host
            tunnel = await self._egress.tunnel(self._url, self._proxy, _CONNECT_SECONDS)
        return await asyncssh.connect(
            address, self._url.port, sock=tunnel, username=self._identity.user, client_keys=[key], config=None,
            agent_path=None,
            known_hosts=lambda host, addr, port: known, preferred_auth="publickey", gss_host=None,
            connect_timeout=_CONNECT_SECONDS, login_timeout=_CONNECT_SECONDS, keepalive_interval=_KEEPALIVE_SECONDS,
            x509_trusted_certs=None, client_version=_AGENT, **self._algorithms.options,
        )  # fmt: skip

    def _close_later(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
        self._closing = asyncio.get_running_loop().call_later(_IDLE, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if not self._users:
            self.close()

    def close(self) -> None:
        """Close it; the next command opens it anew."""
        if self._closing is not None:
            self._closing.cancel()
        if self._open is not None:
            self._open.close()
            self._open = None


class SshConnections:
    """The connections to all servers, shared by the repositories that are on the same server for the same user."""

    def __init__(self, egress: Egress, algorithms: SshAlgorithms = ANY) -> None:
        self._egress = egress
        self._algorithms = algorithms
        self._connections: dict[bytes, _Connection] = {}
        egress.on_close(self.close)

    def to(self, url: RemoteUrl, identity: SshIdentity, proxy: RemoteUrl | None = None) -> _Connection:
        """The connection for a URL, an identity and a way, always the same one."""
        way = (proxy.text, proxy.username, proxy.password) if proxy else ()
        key = hashlib.sha256(joined(url.origin.encode(), identity.identity, *(part.encode() for part in way))).digest()
        found = self._connections.get(key)
        if found is None:
            found = self._connections[key] = _Connection(url, identity, self._egress, proxy, self._algorithms)
        return found

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()


class SshTransport:
    """One repository with one identity, over ssh."""

    def __init__(
        self, url: RemoteUrl, identity: SshIdentity, connections: SshConnections, proxy: RemoteUrl | None = None
    ) -> None:
        self.url = url
        self._connection = connections.to(url, identity, proxy)
        self._path = _path(url)
        self._command = f"{_SERVICE} {_quoted(self._path)}"

    async def refs(self, prefixes: Sequence[str], timeout: float) -> Mapping[str, RefTarget]:
        """The refs that begin with one of the prefixes. Raises GitError.

        A server that does not let version 2 be asked for has sent all its refs with its greeting already.
        """
        with self._told("unable to list remote"):
            async with asyncio.timeout(timeout), self._connection.command(self._command) as process:
                advertisement = parse_advertisement(await _until_flush(process))
                refs: Mapping[str, RefTarget] = advertisement.refs
                if advertisement.version == 2:
                    process.stdin.write(ls_refs_request(prefixes, advertisement.object_format, _AGENT))
                    refs = parse_ls_refs(await _until_flush(process))
                process.stdin.write(FLUSH)
        return {name: target for name, target in refs.items() if not prefixes or name.startswith(tuple(prefixes))}

    @contextlib.asynccontextmanager
    async def access(self, timeout: float) -> AsyncIterator[GitAccess]:
        """git starts what it takes for an ssh client: it connects to our socket, and we to the server."""
        with tempfile.TemporaryDirectory(prefix="headrace-git-") as folder:
            relay = _Relay(self._connection, self._command)
            async with relay.listening(Path(folder) / "socket") as socket:
                try:
                    yield GitAccess(self.url.text, *_program(socket))
                except GitError as error:
                    if relay.said:
                        raise type(error)(f"{error}: {relay.said}") from error
                    raise

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Turn every way in which SSH fails into a GitError that names the repository and no secret."""
        what = f"{what} for '{self.url.text}'"
        try:
            yield
        except TimeoutError as error:
            raise GitError(f"{what}: context deadline exceeded: no answer in time") from error
        except asyncssh.PermissionDenied as error:
            raise AuthenticationRequired(f"{what}: {_reason(error)}") from error
        except (GitError, EgressDenied, asyncssh.Error, OSError, ValueError) as error:
            raise GitError(f"{what}: {_reason(error)}") from error


class _Relay:
    """Passes what the git program says to the server, and back, over a socket that only our user can reach."""

    def __init__(self, connection: _Connection, command: str) -> None:
        self._connection = connection
        self._command = command
        self._task: asyncio.Task[None] | None = None
        self.said = ""

    @contextlib.asynccontextmanager
    async def listening(self, socket: Path) -> AsyncIterator[Path]:
        """For as long as the context is open, connections to `socket` reach the server."""
        server = await asyncio.start_unix_server(self._serve, path=socket)
        try:
            yield socket
        finally:
            server.close()
            if self._task is not None:
                self._task.cancel()
                await asyncio.wait([self._task])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._task = asyncio.current_task()
        try:
            await self._pass_on(reader, writer)
        except* (GitError, EgressDenied, asyncssh.Error, OSError, ValueError) as errors:
            self.said = self.said or _reason(errors.exceptions[0])
        finally:
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with self._connection.command(self._command) as process, asyncio.TaskGroup() as group:
            upwards = group.create_task(_upwards(reader, process))
            group.create_task(self._listen(process))
            await _downwards(process, writer)
            upwards.cancel()
            writer.close()

    async def _listen(self, process: Process) -> None:
        """What the server complains of."""
        self.said = _shown(await process.stderr.read(4096))


def _program(socket: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Configuration and environment that have git run our end of the socket in place of an ssh client."""
    command = shlex.join([sys.executable, "-I", "-S", bridge.__file__])
    environment = {
        "GIT_ALLOW_PROTOCOL": "ssh", "GIT_SSH_COMMAND": command, "GIT_SSH_VARIANT": "ssh",
        bridge.SOCKET: str(socket),
    }  # fmt: skip
    return {"protocol.ssh.allow": "always"}, environment


async def _upwards(reader: asyncio.StreamReader, process: Process) -> None:
    while data := await reader.read(_CHUNK):
        process.stdin.write(data)
        await process.stdin.drain()
    process.stdin.write_eof()


async def _downwards(process: Process, writer: asyncio.StreamWriter) -> None:
    while data := await process.stdout.read(_CHUNK):
        writer.write(data)
        await writer.drain()


async def _until_flush(process: Process) -> bytes:
    """The packets up to the one that ends an answer. Raises GitError with what the server complains of."""
    answer = bytearray()
    try:
        while True:
            head = await process.stdout.readexactly(4)
            answer += head
            if head == FLUSH:
                break
            answer += await process.stdout.readexactly(max(0, int(head, 16) - 4))
            if len(answer) > _REFS_BYTES:
                raise GitError(f"the answer is larger than {_REFS_BYTES} bytes")
    except asyncio.IncompleteReadError:
        said = _shown(await process.stderr.read(4096))
        raise GitError(said or "the server's answer ends too early") from None
    except ValueError:
        raise GitError("the server's answer is no git protocol") from None
    return bytes(answer)


def _path(url: RemoteUrl) -> str:
    """The path as the server is to see it: `/~user/x` is relative to a home directory."""
    _, _, path = url.text.removeprefix("ssh://").partition("/")
    path = unquote(path)
    if any(ord(char) < 32 for char in path):
        raise ValueError("URL is refused: its path contains control characters")
    return path if path.startswith("~") else f"/{path}"


def _quoted(path: str) -> str:
    """As git quotes: servers that run no shell understand only that."""
    return "'" + path.replace("'", "'\\''").replace("!", "'\\!'") + "'"


def _private_key(identity: SshIdentity) -> asyncssh.SSHKey:
    """Raises GitError. Slow by purpose where there is a passphrase."""
    try:
        return asyncssh.import_private_key(identity.key, identity.passphrase or None)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise GitError(f"unable to read 'identity': {error}") from None


def _known_keys(text: str, url: RemoteUrl) -> KnownKeys:
    """(trusted host keys, certificate authorities, revoked keys) for the host under its name and port, not for
    its address: names lead to addresses by DNS, which nobody vouches for."""
    name = url.host if url.port == _SSH_PORT else f"[{url.host}]:{url.port}"
    try:
        found = asyncssh.import_known_hosts(text).match(name, "", None)
    except (ValueError, asyncssh.Error):
        raise GitError("unable to read 'known_hosts'") from None
    if not found[0] and not found[1]:
        raise GitError(f"host key verification failed: 'known_hosts' has no key for '{name}'")
    return list(found[0]), list(found[1]), list(found[2])


def _reason(error: BaseException) -> str:
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return f"host key verification failed: {error.reason}"
    if isinstance(error, asyncssh.PermissionDenied):
        return "authentication failed: the server does not accept the key"
    if isinstance(error, asyncssh.Error):
        return error.reason
    if isinstance(error, OSError) and error.strerror:
        return f"cannot connect: {error.strerror}"
    return str(error) or type(error).__name__


def _shown(data: bytes) -> str:
    """What a server wrote, as one line that can be shown."""
    text = data.decode("utf-8", "replace")
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:512]
