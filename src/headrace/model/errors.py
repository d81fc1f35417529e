"""Errors that carry their handling: what the object's condition says and what makes the next run happen."""

from __future__ import annotations

from collections.abc import Iterable

from headrace.model.outcome import Condition
from headrace.model.reference import Reference


class StepError(Exception):
    """A step of a reconcile failed in a way that is understood.

    `reason` is the CamelCase reason of the condition, the event and the metric; `message` is what the user reads
    (redacted and cut by `status`); `condition` names the condition besides Ready that shows it (`FetchFailed`,
    `Healthy`), if any. `objects` are the objects that are to blame, for `explain`. `quiet` suppresses the event.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        condition: str = "",
        objects: Iterable[Reference] = (),
        status: dict[str, object] | None = None,
        quiet: bool = False,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.condition = condition
        self.objects = tuple(objects)
        self.status = status or {}
        self.quiet = quiet
        self.conditions: tuple[Condition, ...] = ()
        """What stands in the status instead of `condition` with `reason` and `message`, where a kind of Flux says one
        thing in its events and another in its conditions, or shows a failure in two conditions."""
        self.annotations: dict[str, str] = {}
        """Annotations of the event."""
        self.remove: tuple[str, ...] = ()
        """Conditions that this failure makes untrue."""

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


class Stalled(StepError):
    """Needs a person: no timer, the next run comes with a change of the object itself or of what it read."""


class Waiting(StepError):
    """Needs something else first: woken by a change of the parts read of `on`; the timer is only the fallback.

    `after` is that fallback in seconds (None: the setting `requeue-dependency`).
    """

    def __init__(self, reason: str, message: str, *, on: Iterable[Reference], after: float | None = None,
                 condition: str = "", quiet: bool = False) -> None:
        super().__init__(reason, message, condition=condition, objects=on, quiet=quiet)
        self.after = after


class Retry(StepError):
    """Failed, and trying again may help: after `after` seconds, or with backoff when None.

    `cures` are references whose next change of any kind is worth a retry at once (a CRD that is missing, a webhook's
    Service, a RoleBinding): events that cure the error end the backoff.
    """

    def __init__(self, reason: str, message: str, *, after: float | None = None,
                 cures: Iterable[Reference] = (), condition: str = "",
                 objects: Iterable[Reference] = (), status: dict[str, object] | None = None,
                 quiet: bool = False) -> None:
        super().__init__(reason, message, condition=condition, objects=objects, status=status, quiet=quiet)
        self.after = after
        self.cures = tuple(cures)


class Superseded(Exception):
    """Raised out of `Scope.wait` when a newer wake-up made the wait pointless; `cause` says by what."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause
