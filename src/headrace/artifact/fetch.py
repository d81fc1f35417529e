"""Artifacts of other source controllers: fetched by URL through core.egress, accepted only by their digest (SEC-33)."""

from __future__ import annotations

from typing import BinaryIO

import aiohttp
from yarl import URL

from headrace.core.digests import ALGORITHMS, matches
from headrace.core.egress import Egress, EgressDenied, RemoteUrl, UrlRefused, parse_url
from headrace.core.limits import UNPACK, UnpackLimits
from headrace.model.artifact import Artifact
from headrace.model.errors import Retry

ARTIFACT_FAILED = "ArtifactFailed"
_GONE = (404, 410)

REQUEUE = 30.0
"""Seconds until a missing artifact is looked for again: its source is about to make it anew, and if that gives the
same artifact no event tells (KS-SRC-05). The default of requeue-dependency."""


def failed(message: str, *, after: float | None = None) -> Retry:
    """The StepError of a consumer whose artifact cannot be used."""
    return Retry(ARTIFACT_FAILED, message, after=after)


class Fetcher:
    """Downloads artifacts. `localhost` replaces the host in URLs (upstream's SOURCE_CONTROLLER_LOCALHOST)."""

    def __init__(
        self, egress: Egress, *, timeout: float = 60.0, limits: UnpackLimits = UNPACK, localhost: str = "",
        requeue: float = REQUEUE,
    ) -> None:
        self._egress = egress
        self._timeout = timeout
        self._limits = limits
        self._localhost = localhost
        self._requeue = requeue

    async def fetch(self, artifact: Artifact, target: BinaryIO) -> None:
        """Write the artifact's file to `target`, readable and writable, and check it. Raises Retry(ArtifactFailed)."""
        digest = artifact.digest if ":" in artifact.digest else f"sha256:{artifact.digest}"
        algorithm, _, value = digest.partition(":")
        if algorithm not in ALGORITHMS or not value:
            shown = artifact.digest[:96]
            raise failed(f"artifact digest '{shown}' is not acceptable: it must be one of {', '.join(ALGORITHMS)}")
        try:
            await self._download(self._address(artifact.url), artifact, target)
        except (UrlRefused, EgressDenied) as error:
            raise failed(f"failed to download artifact: {error}") from error
        except TimeoutError as error:
            raise failed(f"failed to download artifact: no complete answer within {self._timeout:g}s") from error
        except aiohttp.ClientError as error:
            raise failed(f"failed to download artifact: {error}") from error
        target.seek(0)
        if not matches(target, digest):
            raise failed(f"computed digest doesn't match '{digest}': the artifact is damaged or was replaced")
        target.seek(0)

    def _address(self, url: str) -> RemoteUrl:
        if self._localhost:
            url = str(URL(url, encoded=True).with_host(self._localhost))
        return parse_url(url)

    async def _download(self, url: RemoteUrl, artifact: Artifact, target: BinaryIO) -> None:
        """Stops one byte after what was promised, or what is accepted (SEC-05)."""
        limit = self._limits.archive_bytes if artifact.size is None else min(artifact.size, self._limits.archive_bytes)
        async with self._egress.stream("GET", url, timeout=self._timeout) as response:
            if response.status in _GONE:
                raise failed(f"artifact not found at '{url.text}'", after=self._requeue)
            if response.status != 200:
                raise failed(f"failed to download artifact: status {response.status} from '{url.text}'")
            size = 0
            async for chunk in response.content.iter_any():
                size += len(chunk)
                if size > limit:
                    response.close()
                    raise failed(f"artifact is larger than {limit} bytes")
                target.write(chunk)
