"""The shadow repository of `headrace up DIR`: a bare git repository that follows a directory, outside of it.

The user's own `.git` is never opened: git runs with its own GIT_DIR and index, and only reads the directory as its work
tree, so `.gitignore` and `.gitattributes` mean what they mean in any repository.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from headrace.core.sandbox import Completed, SandboxError, run

BRANCH = "main"
_TIMEOUT = 120.0
_IDENTITY = {
    "GIT_AUTHOR_NAME": "headrace", "GIT_AUTHOR_EMAIL": "headrace@localhost",
    "GIT_COMMITTER_NAME": "headrace", "GIT_COMMITTER_EMAIL": "headrace@localhost",
}  # fmt: skip
_PLAIN_CONFIG = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_TERMINAL_PROMPT": "0"}


class ShadowError(Exception):
    """The directory could not be recorded; the message is git's own."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit of the shadow repository; `new` when it differs from the one before."""

    id: str
    new: bool

    @property
    def revision(self) -> str:
        """As GitRepository status has it."""
        return f"{BRANCH}@sha1:{self.id}"


class Shadow:
    """Follows `directory` in a bare repository below `home`; the same directory always gets the same repository."""

    def __init__(self, directory: Path, home: Path) -> None:
        self.directory = directory.resolve()
        digest = hashlib.sha256(str(self.directory).encode()).hexdigest()[:16]
        self.name = f"{digest}.git"
        self._repository = home / self.name

    async def open(self) -> None:
        """Make the repository when it is not there. Raises ShadowError."""
        if not (self._repository / "HEAD").exists():
            await self._checked("init", "--quiet", "--bare", f"--initial-branch={BRANCH}", str(self._repository))
        await self._checked("config", "http.receivepack", "false")
        await self._checked("config", "uploadpack.allowReachableSHA1InWant", "true")
        await self._checked("gc", "--auto", "--quiet")

    async def record(self) -> Commit:
        """Commit the directory as it is now; no commit when nothing differs. Raises ShadowError."""
        await self._checked("add", "--all", "--", ".", work_tree=True)
        tree = await self._checked("write-tree", work_tree=True)
        head = await self._git("rev-parse", "--verify", "--quiet", f"refs/heads/{BRANCH}^{{commit}}")
        old = head.stdout.decode().strip()
        if old and tree == await self._checked("rev-parse", f"{old}^{{tree}}"):
            return Commit(old, new=False)
        parents = ("-p", old) if old else ()
        message = f"Snapshot of {self.directory.name}"
        new = await self._checked("commit-tree", tree, *parents, "-m", message)
        await self._checked("update-ref", f"refs/heads/{BRANCH}", new, *((old,) if old else ()))
        return Commit(new, new=True)

    async def _checked(self, *argv: str, work_tree: bool = False) -> str:
        completed = await self._git(*argv, work_tree=work_tree)
        if completed.code != 0:
            raise ShadowError(f"git {argv[0]}: {completed.errors or completed.code}")
        return completed.stdout.decode().strip()

    async def _git(self, *argv: str, work_tree: bool = False) -> Completed:
        place = ["--git-dir", str(self._repository)] if argv[0] != "init" else []
        if work_tree:
            place += ["--work-tree", str(self.directory), "-c", "core.bare=false"]
            place += ["-c", f"core.excludesFile={self.directory / '.git' / 'info' / 'exclude'}"]
        try:
            return await run(
                ["git", *place, "-c", "core.autocrlf=false", "-c", "advice.addEmbeddedRepo=false", *argv],
                env={**_PLAIN_CONFIG, **_IDENTITY},
                cwd=self.directory,
                timeout=_TIMEOUT,
            )
        except SandboxError as error:
            raise ShadowError(str(error)) from error
