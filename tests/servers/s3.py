"""A real S3 server for tests: the Versity gateway over a directory, and what a test does to its content."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import aiohttp

from headrace.core.clock import SystemClock
from headrace.core.egress import parse_url
from headrace.core.sigv4 import AwsKeys, sign
from tests.servers.go_program import program

KEYS = AwsKeys("test-access", "test-secret-key")
REGION = "eu-test-1"
_START_SECONDS = 60.0


@dataclass
class S3Server:
    """A running server. `endpoint` is `host:port`."""

    endpoint: str
    keys: AwsKeys
    session: aiohttp.ClientSession
    tls: bool = False

    async def make_bucket(self, name: str) -> None:
        await self._send("PUT", name)

    async def put(self, bucket: str, key: str, content: bytes) -> None:
        await self._send("PUT", f"{bucket}/{quote(key, safe='/~')}", content)

    async def delete(self, bucket: str, key: str) -> None:
        await self._send("DELETE", f"{bucket}/{quote(key, safe='/~')}")

    async def _send(self, method: str, path: str, content: bytes = b"") -> None:
        url = parse_url(f"{'https' if self.tls else 'http'}://{self.endpoint}/{path}")
        headers = sign(method, url, keys=self.keys, region=REGION, service="s3", now=SystemClock().now(), body=content)
        async with self.session.request(method, url.url, headers=headers, data=content, ssl=False) as response:
            assert response.status < 300, await response.text()


@contextlib.asynccontextmanager
async def s3_server(directory: Path, *, certificate: bytes = b"") -> AsyncIterator[S3Server]:
    """Serve a new directory on a free port of the loopback; with `certificate` (PEM of both) over TLS."""
    content, sidecar = directory / "objects", directory / "attributes"
    for folder in (content, sidecar):
        folder.mkdir(parents=True)
    env = {
        "S3_ACCESS_KEY": KEYS.access_key, "S3_SECRET_KEY": KEYS.secret_key, "S3_REGION": REGION,
        "HOME": str(directory), "PATH": os.environ["PATH"],
    }  # fmt: skip
    if certificate:
        file = directory / "server.pem"
        file.write_bytes(certificate)
        env |= {"S3_CERTIFICATE": str(file), "S3_KEY": str(file)}
    endpoint = f"127.0.0.1:{_free_port()}"
    executable = await asyncio.to_thread(program, "s3")
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [executable, endpoint, content, sidecar], env=env, cwd=directory, stdout=log, stderr=log
        )
    async with aiohttp.ClientSession() as session:
        server = S3Server(endpoint, KEYS, session, bool(certificate))
        try:
            await _until_healthy(server, process, directory / "log")
            yield server
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait, 30)


async def _until_healthy(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    url = f"{'https' if server.tls else 'http'}://{server.endpoint}/healthz"
    async with asyncio.timeout(_START_SECONDS):
        while True:
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(aiohttp.ClientError):
                async with server.session.get(url, ssl=False) as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
