"""`spec.verify`: no artifact is published before it is signed by somebody who is trusted (SRC-OCI-21..27).

Signatures are looked for beside the digest that was resolved, and that digest is what is pulled. Nothing that a
registry says makes a verification weaker: without a signature that is good, the artifact that was there stays.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from headrace.api.ocirepository import OCIRepository, OCIRepositoryVerification
from headrace.controllers.sources.secrets import secret_data
from headrace.core.duration import parse_duration
from headrace.model.artifact import Artifact
from headrace.model.errors import Retry
from headrace.model.objects import LiveObject
from headrace.model.outcome import Condition
from headrace.model.read import Part
from headrace.model.scope import Scope
from headrace.source.oci.cosign import (
    PUBLIC_KEY,
    TRUSTED_ROOT,
    KeyUnreadable,
    PublicKey,
    find_signatures,
    keyless_bundles,
    public_key,
    signed_by,
)
from headrace.source.oci.errors import OciError
from headrace.source.oci.notation import CERTIFICATES, TRUST_POLICY, find_envelopes
from headrace.source.oci.registry import Registry
from headrace.source.oci.remotes import Found, Source
from headrace.toolbox import Toolbox
from headrace.toolbox.errors import ToolboxError
from headrace.toolbox.messages import KeylessRequest, NotationRequest, SignerIdentity

log = logging.getLogger(__name__)

VERIFIED = "SourceVerified"
VERIFICATION_ERROR = "VerificationError"
COSIGN, NOTATION = "cosign", "notation"
_SHOWN = 3
"""Reasons that a message names."""


def _all_data(live: LiveObject) -> dict[str, str]:
    return dict(live.content().get("data") or {})


TRUST = Part("verification-trust", _all_data, secret=True)


@dataclass(frozen=True, slots=True)
class Proof:
    """What the status says of a verification."""

    conditions: tuple[Condition, ...] = ()
    remove: tuple[str, ...] = ()


class _NotVerified(Exception):
    """The artifact is not signed by anybody who is trusted; the message is for users."""


def needs_verification(repo: OCIRepository, held: Artifact | None, revision: str) -> bool:
    """Whether the signatures must be looked at: the revision or the spec is another one than was verified, or the
    last verification failed (SRC-OCI-26)."""
    if repo.spec.verify is None:
        return False
    last = next((one for one in repo.status.conditions if one.type == VERIFIED), None)
    return (
        held is None
        or held.revision != revision
        or last is None
        or last.status != "True"
        or last.observed_generation != repo.metadata.generation
    )


_Way = Callable[[OCIRepository, OCIRepositoryVerification, Source, Found, Scope], Awaitable[bool]]
"""Raises what `verify` tells; False when nothing is asked for."""


class OciVerification:
    """Verifies artifacts of registries. `trusted_root` is the operator's for signatures without a key whose object
    names none; empty when there is none."""

    def __init__(self, registry: Registry, toolbox: Toolbox, *, trusted_root: str = "") -> None:
        self._registry = registry
        self._toolbox = toolbox
        self._trusted_root = trusted_root

    async def verify(self, repo: OCIRepository, source: Source, found: Found, scope: Scope) -> Proof:
        """What the status says of an artifact that may be used. Raises Retry(VerificationError) for any other."""
        spec = repo.spec.verify
        assert spec is not None
        try:
            with scope.step("verify signatures"):
                proven = await self._way(spec)(repo, spec, source, found, scope)
        except (_NotVerified, OciError, KeyUnreadable, ToolboxError) as error:
            provider = spec.provider if spec.secret_ref or spec.provider != COSIGN else f"{COSIGN} keyless"
            text = f"failed to verify the signature using provider '{provider}': {error}"
            after = error.retry_after if isinstance(error, OciError) else None
            raise Retry(VERIFICATION_ERROR, text, after=after, condition=VERIFIED) from error
        if not proven:
            scope.note("the trust policy asks for no signature: nothing is verified")
            return Proof(remove=(VERIFIED,))
        text = f"verified signature of revision {found.revision}"
        return Proof((Condition(VERIFIED, "True", "Succeeded", text),))

    def _way(self, spec: OCIRepositoryVerification) -> _Way:
        if spec.provider == COSIGN:
            return self._by_key if spec.secret_ref else self._keyless
        if spec.provider == NOTATION:
            return self._notation
        raise _NotVerified(f"unsupported verification provider: {spec.provider}")

    # -- cosign --------------------------------------------------------------------------------------------------

    async def _by_key(
        self, repo: OCIRepository, spec: OCIRepositoryVerification, source: Source, found: Found, scope: Scope
    ) -> bool:
        """Any key of the Secret will do (SRC-OCI-21)."""
        assert spec.secret_ref is not None
        data = await _trust(repo, spec.secret_ref.name, scope)
        keys = _keys(data)
        finding = find_signatures(self._registry, source, found.digest, timeout=parse_duration(repo.spec.timeout))
        signatures, bundles = await scope.wait(finding, note="signatures from the registry")
        for key in keys:
            if await asyncio.to_thread(signed_by, key, found.digest, signatures, bundles):
                return True
        raise _unsigned(source, found)

    async def _keyless(
        self, repo: OCIRepository, spec: OCIRepositoryVerification, source: Source, found: Found, scope: Scope
    ) -> bool:
        """One signature by one of the identities, with the evidence that the trusted root can judge (SRC-OCI-22)."""
        root = await self._root(repo, spec, scope)
        finding = find_signatures(self._registry, source, found.digest, timeout=parse_duration(repo.spec.timeout))
        signatures, bundles = await scope.wait(finding, note="signatures from the registry")
        request = KeylessRequest(
            trusted_root=root,
            digest=found.digest,
            identities=[SignerIdentity(one.issuer, one.subject) for one in spec.match_oidc_identity],
            bundles=keyless_bundles(found.digest, signatures, bundles),
        )
        result = await self._toolbox.verify_keyless(request)
        if not result.verified:
            raise _unsigned(source, found, result.errors)
        scope.note(f"signed by '{result.signer}'")
        return True

    async def _root(self, repo: OCIRepository, spec: OCIRepositoryVerification, scope: Scope) -> str:
        """The trusted root of the object, else the operator's (SRC-OCI-23)."""
        if spec.trusted_root_secret_ref is None:
            if not self._trusted_root:
                text = "spec.verify.trustedRootSecretRef is needed: the engine has no trusted root of its own"
                raise _NotVerified(text)
            return self._trusted_root
        name = spec.trusted_root_secret_ref.name
        data = await _trust(repo, name, scope)
        if TRUSTED_ROOT not in data:
            raise _NotVerified(f"'{TRUSTED_ROOT}' not found in secret '{repo.metadata.namespace}/{name}'")
        return data[TRUSTED_ROOT].decode("utf-8", "replace")

    # -- notation ------------------------------------------------------------------------------------------------

    async def _notation(
        self, repo: OCIRepository, spec: OCIRepositoryVerification, source: Source, found: Found, scope: Scope
    ) -> bool:
        """As the trust policy says; False when it asks for nothing (SRC-OCI-24, SRC-OCI-25)."""
        if spec.secret_ref is None:
            raise _NotVerified(f"verification secret cannot be empty: '{source.repository.named(found.digest)}'")
        shown = f"{repo.metadata.namespace}/{spec.secret_ref.name}"
        data = await _trust(repo, spec.secret_ref.name, scope)
        if TRUST_POLICY not in data:
            raise _NotVerified(f"'{TRUST_POLICY}' not found in secret '{shown}'")
        certificates = [value.decode("utf-8", "replace") for key, value in data.items() if key.endswith(CERTIFICATES)]
        if not certificates:
            raise _NotVerified(f"no certificates found in secret '{shown}'")
        policy = data[TRUST_POLICY].decode("utf-8", "replace")
        asking = self._signed_artifact(repo, source, found, policy, certificates)
        result = await self._toolbox.verify_notation(await scope.wait(asking, note="signatures from the registry"))
        if result.result == "failed":
            raise _unsigned(source, found, result.errors)
        return result.result == "verified"

    async def _signed_artifact(
        self, repo: OCIRepository, source: Source, found: Found, policy: str, certificates: Sequence[str]
    ) -> NotationRequest:
        timeout = parse_duration(repo.spec.timeout)
        artifact = await self._registry.resolve(source.repository, found.digest, source.access, timeout=timeout)
        return NotationRequest(
            policy=policy,
            certificates=certificates,
            reference=source.repository.named(found.digest),
            media_type=artifact.media_type,
            digest=artifact.digest,
            size=artifact.size,
            signatures=await find_envelopes(self._registry, source, found.digest, timeout=timeout),
        )


async def _trust(repo: OCIRepository, name: str, scope: Scope) -> Mapping[str, bytes]:
    return await secret_data(
        repo.metadata.namespace, name, TRUST, scope, reason=VERIFICATION_ERROR, condition=VERIFIED
    )


def _keys(data: Mapping[str, bytes]) -> list[PublicKey]:
    """The keys that can be used; the others are told in the log, as any key will do."""
    keys: list[PublicKey] = []
    for name in sorted(data):
        if not name.endswith(PUBLIC_KEY):
            continue
        try:
            keys.append(public_key(data[name]))
        except KeyUnreadable as error:
            log.warning("a public key is left out", extra={"key": name, "reason": str(error)})
    return keys


def _unsigned(source: Source, found: Found, reasons: Sequence[str] = ()) -> _NotVerified:
    shown = source.repository.named(found.tag or found.digest)
    told = "".join(f"; {reason}" for reason in dict.fromkeys(reasons[:_SHOWN]))
    return _NotVerified(f"no matching signatures were found for '{shown}'{told}")
