"""How failures of object storage are told. No message holds a query of a URL: signatures are in there (SEC-35)."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import aiohttp

from headrace.core.egress import BodyTooLarge, EgressDenied, UrlRefused

_QUERY = re.compile(r"\?[^\s'\"<>]*")
_SHOWN = 512


class BucketError(Exception):
    """Something about a bucket or its server; the message is for users and holds no secret."""


class BucketNotFound(BucketError):
    """There is no such bucket, or it is hidden from these credentials."""


class ObjectNotFound(BucketError):
    """The object is not there, or is not any more."""


def shown(text: str) -> str:
    """What a server said, as one line without queries."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return _QUERY.sub("", line)[:_SHOWN]


@contextlib.contextmanager
def told(server: str) -> Iterator[None]:
    """Turn every way in which HTTP fails into a BucketError that names the server."""
    try:
        yield
    except BucketError:
        raise
    except TimeoutError as error:
        raise BucketError(f"no answer of '{server}' in time: context deadline exceeded") from error
    except aiohttp.ClientConnectorError as error:
        reason = error.os_error.strerror or str(error.os_error)
        raise BucketError(f"cannot connect to '{server}': {shown(reason)}") from error
    except (UrlRefused, EgressDenied, BodyTooLarge, ValueError) as error:
        raise BucketError(shown(str(error))) from error
    except aiohttp.ClientPayloadError as error:
        raise BucketError(f"the answer of '{server}' ended too early") from error
    except aiohttp.ClientError as error:
        raise BucketError(f"request to '{server}' failed: {shown(str(error)) or type(error).__name__}") from error
