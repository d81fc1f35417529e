"""Exit codes of every command, so that scripts can tell what happened (docs/cli.md lists them)."""

from __future__ import annotations

OK = 0
FAILED = 1
"""The command ran and what it asked for did not come about: a reconcile failed, an object is not Ready."""
USAGE = 2
"""The command line, a settings file or an environment variable cannot be used."""
UNREACHABLE = 3
"""No cluster was found, or its API server does not answer."""
NOT_FOUND = 4
"""The object that was named does not exist."""
TIMED_OUT = 5
"""It had not happened when --timeout was over."""
REFUSED = 6
"""The command would have done harm and did nothing: Flux's controllers are running, another `up` is."""
INTERRUPTED = 130
"""Ended by Ctrl-C."""


class CommandError(Exception):
    """Ends a command with a message for the user and an exit code; never a stack trace."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
