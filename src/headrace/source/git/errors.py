"""How failures of git are told: one reason for all, as upstream has it (SRC-GIT-16)."""

from __future__ import annotations

from headrace.model.errors import Retry, Stalled

FETCH_FAILED = "FetchFailed"
GIT_OPERATION_FAILED = "GitOperationFailed"
AUTHENTICATION_FAILED = "AuthenticationFailed"
EMPTY_REPOSITORY = "EmptyGitRepository"


class GitError(Exception):
    """Something about a git server or repository; the message is for users and holds no secret."""


class AuthenticationRequired(GitError):
    """The server does not accept the credentials, or wants some."""


class RefNotFound(GitError):
    """The ref is not there, though the repository is."""


class EmptyRepository(GitError):
    """The repository has no commit yet."""


def operation_failed(error: GitError | str) -> Retry:
    """The StepError for a GitError: tried again with backoff; the user sees it as FetchFailed."""
    if isinstance(error, EmptyRepository):
        return Retry(EMPTY_REPOSITORY, "git repository is empty", condition=FETCH_FAILED)
    message = f"failed to checkout and determine revision: {error}"
    return Retry(GIT_OPERATION_FAILED, message, condition=FETCH_FAILED)


def refused(message: str, reason: str = "URLInvalid") -> Stalled:
    """The StepError for input that only a person can correct."""
    return Stalled(reason, message, condition=FETCH_FAILED)
