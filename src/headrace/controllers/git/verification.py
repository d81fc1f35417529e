"""`spec.verify`: no artifact is published before the commit, the tag, or both are signed by a trusted key.

What was verified is kept in `status.sourceVerificationMode`: the same commit is verified again only for more.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from headrace.api.gitrepository import GitRepository, GitRepositoryVerification
from headrace.controllers.sources.secrets import secret_data
from headrace.core.duration import parse_duration
from headrace.model.errors import Retry, Stalled
from headrace.model.objects import LiveObject
from headrace.model.outcome import Condition
from headrace.model.read import Part
from headrace.model.scope import Scope
from headrace.source.git.refs import TAGS, Resolved
from headrace.source.git.remotes import Remote
from headrace.source.git.signatures import (
    KeysUnreadable,
    SignatureInvalid,
    Signed,
    TrustedKeys,
    signed_commit,
    signed_tag,
    trusted_keys,
    verify,
)

VERIFIED = "SourceVerified"
VERIFICATION_ERROR = "VerificationError"
HEAD, TAG, BOTH = "HEAD", "Tag", "TagAndHEAD"


def _all_data(live: LiveObject) -> dict[str, str]:
    return dict(live.content().get("data") or {})


VERIFICATION_KEYS = Part("verification-keys", _all_data, secret=True)


@dataclass(frozen=True, slots=True)
class Verified:
    """What was verified; nothing when the spec asks for nothing."""

    mode: str = ""
    message: str = ""

    @property
    def conditions(self) -> tuple[Condition, ...]:
        return (Condition(VERIFIED, "True", "Succeeded", self.message),) if self.mode else ()


def needs_verification(repo: GitRepository) -> bool:
    """Whether less was verified of the artifact that is there than the spec asks for (SRC-GIT-43), or the status
    still tells of another commit that failed."""
    if repo.spec.verify is None:
        return False
    return _has_failed(repo) or repo.status.source_verification_mode not in (_mode(repo.spec.verify), BOTH)


def left_over(repo: GitRepository) -> tuple[str, ...]:
    """The condition of a verification that is no longer asked for and had failed: it would be in the way."""
    return (VERIFIED,) if _has_failed(repo) and repo.spec.verify is None else ()


def _has_failed(repo: GitRepository) -> bool:
    return any(condition.type == VERIFIED and condition.status == "False" for condition in repo.status.conditions)


def _mode(spec: GitRepositoryVerification) -> str:
    return HEAD if spec.mode == "head" else spec.mode


async def verified(repo: GitRepository, remote: Remote, target: Resolved, scope: Scope) -> Verified:
    """Verify what the spec asks for. Raises Stalled(InvalidVerificationMode), Retry(VerificationError,
    InvalidGitObject, InvalidTagSignature, InvalidCommitSignature), GitError."""
    spec = repo.spec.verify
    if spec is None:
        return Verified()
    mode = _mode(spec)
    if mode in (TAG, BOTH) and not target.ref.startswith(TAGS):
        message = "cannot verify tag object's signature if a tag reference is not specified"
        raise Stalled("InvalidVerificationMode", message, condition=VERIFIED)
    keys = await _keys(repo, spec, scope)
    timeout = parse_duration(repo.spec.timeout)
    if remote.commit_nowait(target) is None:
        await scope.wait(remote.commit(target, timeout), note="commit from the git server")
    parts = []
    if mode in (TAG, BOTH):
        parts.append(await _verified_tag(remote, target, keys, timeout))
    if mode in (HEAD, BOTH):
        parts.append(await _verified_commit(remote, target, keys, timeout))
    return Verified(mode, "verified signature of\n\t- " + "\n\t- ".join(parts))


async def _keys(repo: GitRepository, spec: GitRepositoryVerification, scope: Scope) -> TrustedKeys:
    if spec.secret_ref.namespace not in (None, "", repo.metadata.namespace):
        message = "spec.verify.secretRef.namespace is not the namespace of the object"
        raise Stalled(VERIFICATION_ERROR, message, condition=VERIFIED)
    data = await secret_data(
        repo.metadata.namespace,
        spec.secret_ref.name,
        VERIFICATION_KEYS,
        scope,
        reason=VERIFICATION_ERROR,
        condition=VERIFIED,
    )
    try:
        return await asyncio.to_thread(trusted_keys, data)
    except KeysUnreadable as error:
        raise Retry(VERIFICATION_ERROR, str(error), condition=VERIFIED) from error


async def _verified_commit(remote: Remote, target: Resolved, keys: TrustedKeys, timeout: float) -> str:
    try:
        signed = signed_commit(await remote.read_object("commit", target.commit, target, timeout))
        key = await asyncio.to_thread(verify, signed, keys)
    except SignatureInvalid as error:
        message = f"signature verification of commit '{target.commit}' failed: {error}"
        raise Retry("InvalidCommitSignature", message, condition=VERIFIED) from error
    return f"commit '{target.commit}' with key '{key}'"


async def _verified_tag(remote: Remote, target: Resolved, keys: TrustedKeys, timeout: float) -> str:
    shown = f"{target.ref.removeprefix(TAGS)}@{target.oid}"
    try:
        if target.oid == target.commit:
            raise _unsigned(shown)
        signed = signed_tag(await remote.read_object("tag", target.oid, target, timeout))
        if not signed.signature:
            raise _unsigned(shown)
        key = await asyncio.to_thread(verify, signed, keys)
        _check_content(signed, target)
    except SignatureInvalid as error:
        message = f"signature verification of tag '{shown}' failed: {error}"
        raise Retry("InvalidTagSignature", message, condition=VERIFIED) from error
    return f"tag '{shown}' with key '{key}'"


def _unsigned(shown: str) -> Retry:
    """A tag can be replaced by a signed one, so this is no stall (SRC-GIT-39)."""
    message = f"cannot verify signature of tag '{shown}' since it is not signed"
    return Retry("InvalidGitObject", message, condition=VERIFIED)


def _check_content(signed: Signed, target: Resolved) -> None:
    """A signed tag says which name it is for and which commit: it must not serve under another one (SEC-34)."""
    name = target.ref.removeprefix(TAGS).encode("utf-8", "surrogateescape")
    if signed.headers.get(b"tag") != name:
        raise SignatureInvalid("the signed tag has another name")
    if signed.headers.get(b"type") != b"commit" or signed.headers.get(b"object") != target.commit.encode():
        raise SignatureInvalid("the signed tag is of another object")
