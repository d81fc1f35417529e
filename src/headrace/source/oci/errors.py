"""What goes wrong with a registry, in words for users. Nothing here says anything of credentials."""

from __future__ import annotations


class OciError(Exception):
    """A registry did not give what was asked for. `status` is that of its answer, 0 without one.

    `retry_after` are the seconds that the registry asked to be left alone for, None when it did not.
    """

    def __init__(self, message: str, *, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class NotFound(OciError):
    """The registry has no such manifest, blob or repository, or does not say."""


class Denied(OciError):
    """The registry wants other credentials, or none would do."""


class DigestMismatch(OciError):
    """What came is not what its digest says: never used (SEC-33)."""
