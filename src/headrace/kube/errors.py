"""What can go wrong between here and an API server, typed by what the caller can do about it.

KubeError
  ConfigError        the kubeconfig or the identity cannot be used; asks for a person
  Unreachable        no answer: refused, reset, name not found, TLS (also a ConnectionError)
  NoMatch            the cluster does not serve this kind
  Fenced             we may not write (any more): another engine may lead by now
  ApiError           the server answered with a metav1.Status, or with an HTTP error of its own
    BadRequest 400, Unauthorized 401, Forbidden 403, NotFound 404, Conflict 409, AlreadyExists 409,
    Gone 410, Invalid 422, TooManyRequests 429, ServerError >= 500, Timeout 504 or our own deadline
"""

from __future__ import annotations

import msgspec

_MESSAGE_LIMIT = 8192
"""Characters of a server's message that are kept: a foreign server decides what stands in it."""


class StatusCause(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """metav1.StatusCause: one field that is wrong."""

    reason: str = ""
    message: str = ""
    field: str = ""


class StatusDetails(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """metav1.StatusDetails: what the error is about."""

    name: str = ""
    group: str = ""
    kind: str = ""
    uid: str = ""
    causes: list[StatusCause] | None = None
    retry_after_seconds: int = 0


class _Status(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    kind: str = ""
    message: str = ""
    reason: str = ""
    details: StatusDetails | None = None
    code: int = 0


class KubeError(Exception):
    """Anything that kept a call to a cluster from succeeding. The text may be shown to users."""


class ConfigError(KubeError):
    """A kubeconfig, a credential or an identity that cannot be used."""


class Unreachable(KubeError, ConnectionError):
    """No complete answer came. `sent` says that the request may have reached the server."""

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class ResponseTooLarge(KubeError):
    """The answer is larger than the limit of this client."""


class NoMatch(KubeError):
    """The cluster serves no such kind (now)."""

    def __init__(self, group: str, kind: str, version: str = "") -> None:
        served = f'in version "{group}/{version}"' if group and version else f'in version "{version or group}"'
        super().__init__(f'no matches for kind "{kind}"' + (f" {served}" if group or version else ""))
        self.group = group
        self.kind = kind
        self.version = version


class Fenced(KubeError):
    """A write was not sent: nothing says that we lead still (REL-09)."""


class ApiError(KubeError):
    """The server said no. `retry_after` is in seconds, None when it named no time."""

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        details: StatusDetails | None = None,
        *,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.details = details
        self.retry_after = retry_after


class BadRequest(ApiError):
    """400: the server does not understand the request."""


class Unauthorized(ApiError):
    """401: the credentials are not accepted (any more)."""


class Forbidden(ApiError):
    """403: RBAC or an admission plugin refuses."""


class NotFound(ApiError):
    """404: no such object, or no such path."""

    @property
    def definite(self) -> bool:
        """Whether the server looked for the object. A path that it does not know says nothing about objects: the kind
        may not be served any more, or not yet."""
        return self.details is not None and bool(self.details.name)


class Conflict(ApiError):
    """409: a resourceVersion or uid precondition failed, or a field belongs to another manager."""


class AlreadyExists(ApiError):
    """409 with reason AlreadyExists."""


class Gone(ApiError):
    """410: the resourceVersion or the continue token is too old."""


class Invalid(ApiError):
    """422: validation refused the object."""


class TooManyRequests(ApiError):
    """429, after `Retry-After` was obeyed as long as the deadline allowed."""


class ServerError(ApiError):
    """500 and above."""


class Timeout(ApiError):
    """504, or no answer within our own deadline (status 0)."""


_OVER_LIMITS = ("etcdserver: request is too large", "trying to send message larger than max")
"""What an API server passes on of etcd's server and of its own client of it, as an error 500."""


def is_too_large(error: KubeError) -> bool:
    """Whether an object was not stored because it is larger than a cluster can store."""
    if not isinstance(error, ApiError):
        return False
    return error.status == 413 or any(text in error.message for text in _OVER_LIMITS)


_BY_STATUS: dict[int, type[ApiError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
    504: Timeout,
}


def deadline_passed(what: str, seconds: float) -> Timeout:
    """The error for a request that got no answer within `seconds`."""
    return Timeout(0, "Timeout", f"{what}: no answer within {seconds:g}s")


def error_from_response(status: int, body: bytes, *, what: str, retry_after: float | None = None) -> ApiError:
    """The typed error for an HTTP answer that is no success.

    `what` (verb and path) is named when the body holds no metav1.Status. The body of such an answer is never
    quoted: a tenant's kubeconfig may point at a server whose answers are not meant for the tenant (SEC-21).
    """
    decoded = _decode(body)
    if decoded is None:
        return _typed(status, "")(status, "", f"{what}: the server answered HTTP {status}", retry_after=retry_after)
    if retry_after is None and decoded.details is not None and decoded.details.retry_after_seconds > 0:
        retry_after = float(decoded.details.retry_after_seconds)
    message = decoded.message[:_MESSAGE_LIMIT] or f"{what}: the server answered HTTP {status}"
    return _typed(status, decoded.reason)(status, decoded.reason, message, decoded.details, retry_after=retry_after)


def error_from_event(raw: bytes) -> ApiError:
    """The typed error for the object of an ERROR event of a watch; its code stands in the Status."""
    decoded = _decode(raw)
    if decoded is None:
        return ServerError(500, "", "the watch ended with an error that is no Status")
    return error_from_response(decoded.code or 500, raw, what="watch")


def _decode(body: bytes) -> _Status | None:
    try:
        decoded = msgspec.json.decode(body, type=_Status)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return decoded if decoded.kind == "Status" else None


def _typed(status: int, reason: str) -> type[ApiError]:
    if reason == "AlreadyExists":
        return AlreadyExists
    if reason in ("Expired", "Gone"):
        return Gone
    found = _BY_STATUS.get(status)
    if found is not None:
        return found
    return ServerError if status >= 500 else ApiError
