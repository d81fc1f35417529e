"""Fixtures: a real S3 server for the whole module, and a new bucket on it for each test."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.servers.buckets import Buckets, buckets
from tests.servers.s3 import KEYS, REGION, S3Server, s3_server

SECRET = {"accesskey": KEYS.access_key.encode(), "secretkey": KEYS.secret_key.encode()}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[S3Server]:
    async with s3_server(tmp_path / "s3") as running:
        yield running


@pytest.fixture
async def bucket(server: S3Server) -> str:
    name = f"b-{secrets.token_hex(4)}"
    await server.make_bucket(name)
    return name


@pytest.fixture
async def made(server: S3Server, bucket: str, tmp_path: Path) -> AsyncIterator[Buckets]:
    """Buckets that name the server, the bucket and its Secret."""
    async with buckets(
        tmp_path / "engine", endpoint=server.endpoint, bucketName=bucket, insecure=True, region=REGION,
        secretRef={"name": "keys"},
    ) as made:  # fmt: skip
        made.secret("keys", SECRET)
        yield made
