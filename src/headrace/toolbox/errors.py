"""What a call of the toolbox can raise."""

from __future__ import annotations

from headrace.toolbox.frames import WantedIdentity


class ToolboxError(Exception):
    """The call failed. `code` is for decisions, `message` for people; `file` is relative to the root of the call,
    `object` is Kind/namespace/name; both are empty when not known.

    Codes: PathNotFound, InvalidYAML, BuildFailed, SubstituteFailed, LimitExceeded, NeedsNetwork, InvalidArgument,
    UnknownCall, Panic, Timeout, Internal, and Crashed of ToolboxCrashed. `identities` are those that key services
    would have had to be shown for a build to go on.
    """

    def __init__(
        self, code: str, message: str, *, file: str = "", object: str = "",  # noqa: A002
        identities: tuple[WantedIdentity, ...] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.file = file
        self.object = object
        self.identities = identities


class ToolboxCrashed(ToolboxError):
    """The child died with the call in it: by its memory limit, a fatal error of the Go runtime, or from outside."""

    def __init__(self, message: str) -> None:
        super().__init__("Crashed", message)
