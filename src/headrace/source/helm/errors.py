"""What can go wrong with charts, with the reasons of the conditions that show it (sources.md 2.3 and 2.4)."""

from __future__ import annotations

from enum import Enum


class RepositoryError(Exception):
    """A repository did not give what was asked for. The message may be shown to users."""


class AuthenticationRequired(RepositoryError):
    """The repository wants other credentials, or none would do, or TLS failed."""


class IndexRefused(ValueError):
    """What was fetched is no index. The message may be shown to users."""


class Reason(Enum):
    """Why there is no chart: the reason of the condition and the beginning of its message."""

    REFERENCE = "InvalidChartReference", "invalid chart reference"
    PULL = "ChartPullError", "chart pull error"
    METADATA = "MetadataPatchError", "chart metadata patch error"
    VALUES = "ValuesFilesError", "values files merge error"
    DEPENDENCIES = "DependencyBuildError", "dependency build error"
    PACKAGE = "ChartPackageError", "chart package error"
    VERIFICATION = "ChartVerificationError", "chart verification error"

    @property
    def word(self) -> str:
        """The reason of the condition."""
        return self.value[0]

    @property
    def needs_a_person(self) -> bool:
        """Whether nothing but a change of the object can help."""
        return self in (Reason.REFERENCE, Reason.METADATA, Reason.VALUES)

    @property
    def is_of_the_build(self) -> bool:
        """Whether the chart was found and could not be made, rather than not found."""
        return self not in (Reason.REFERENCE, Reason.PULL)


class ChartError(Exception):
    """There is no chart, or none that could be made."""

    def __init__(self, reason: Reason, message: str, *, denied: bool = False) -> None:
        super().__init__(f"{reason.value[1]}: {message}")
        self.reason = reason
        self.denied = denied
        """Whether the repository wants other credentials."""
