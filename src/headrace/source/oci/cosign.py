"""Signatures of cosign, by keys and by identities: found beside an artifact, verified by what is trusted.

Two forms are read. The older one is an image under the tag `sha256-<hex>.sig` whose layers are small JSON payloads, the
signatures in annotations. The newer one is a bundle that refers to the artifact and holds a signed statement about it.
A signature counts only when it is of the digest that will be pulled (SEC-34, SEC-46).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from headrace.source.oci.errors import NotFound
from headrace.source.oci.registry import Registry
from headrace.source.oci.remotes import Source
from headrace.toolbox.messages import SignedBundle

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

log = logging.getLogger(__name__)

PUBLIC_KEY = ".pub"
TRUSTED_ROOT = "trusted_root.json"
SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_STATEMENT = "application/vnd.in-toto+json"
_SIGN = "https://sigstore.dev/cosign/sign/v1"
_SIGNATURE = "dev.cosignproject.cosign/signature"
_CERTIFICATE = "dev.sigstore.cosign/certificate"
_LOG_ENTRY = "dev.sigstore.cosign/bundle"
_TIMESTAMP = "dev.sigstore.cosign/rfc3161timestamp"
_OLD_BUNDLE = "application/vnd.dev.sigstore.bundle+json;version=0.1"
_MOST = 64
"""Signatures of one artifact that are looked at."""
_PAYLOAD_BYTES = 1024 * 1024

PublicKey: TypeAlias = "ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey"
"""cryptography is imported where keys are used only: it takes 10 MiB, and few artifacts are verified by key."""


class KeyUnreadable(ValueError):
    """A public key that is none, or of a sort that cosign does not use. The message is for users."""


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature of the older form: `payload` is what was signed."""

    payload: bytes
    signature: bytes
    annotations: Mapping[str, str]


async def find_signatures(
    registry: Registry, source: Source, digest: str, *, timeout: float
) -> tuple[list[Signature], list[bytes]]:
    """The signatures of both forms that are beside an artifact; bundles as they are. Raises OciError."""
    return (
        await _signatures(registry, source, digest, timeout),
        await _bundles(registry, source, digest, timeout),
    )


async def _signatures(registry: Registry, source: Source, digest: str, timeout: float) -> list[Signature]:
    tag = f"{digest.replace(':', '-')}.sig"
    try:
        manifest = await registry.image(source.repository, tag, source.access, timeout=timeout)
    except NotFound:
        return []
    layers = [layer for layer in manifest.layers or () if layer.media_type == SIMPLE_SIGNING][:_MOST]
    found: list[Signature] = []
    for layer in layers:
        encoded = (layer.annotations or {}).get(_SIGNATURE, "")
        payload = await registry.blob_bytes(
            source.repository, layer, source.access, timeout=timeout, limit=_PAYLOAD_BYTES
        )
        if encoded:
            found.append(Signature(payload, _decoded(encoded), layer.annotations or {}))
    return found


async def _bundles(registry: Registry, source: Source, digest: str, timeout: float) -> list[bytes]:
    listed = await registry.referrers(
        source.repository, digest, source.access, timeout=timeout, artifact_type=BUNDLE
    )
    found: list[bytes] = []
    for referrer in listed[:_MOST]:
        manifest = await registry.image(source.repository, referrer.digest, source.access, timeout=timeout)
        found += [
            await registry.blob_bytes(source.repository, layer, source.access, timeout=timeout, limit=_PAYLOAD_BYTES)
            for layer in (manifest.layers or ())[:1]
            if layer.media_type == BUNDLE
        ]
    return found


# -- by keys -----------------------------------------------------------------------------------------------------------


def public_key(pem: bytes) -> PublicKey:
    """The key of a PEM file. Raises KeyUnreadable."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyUnreadable("it is no public key in PEM") from error
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey):
        raise KeyUnreadable("keys of this sort are not used by cosign")
    return key


def signed_by(key: PublicKey, digest: str, signatures: Sequence[Signature], bundles: Sequence[bytes]) -> bool:
    """Whether one of the signatures of an artifact is made with the key. Blocks for some milliseconds."""
    for signature in signatures:
        if names(signature.payload, digest) and _is_valid(key, signature.signature, signature.payload):
            return True
    return any(_is_valid(key, made, signed) for bundle in bundles for made, signed in _statements(bundle, digest))


def names(payload: bytes, digest: str) -> bool:
    """Whether a payload says that this artifact was signed: the same bytes must not serve for another one."""
    content = _object(payload)
    critical = content.get("critical")
    image = critical.get("image") if isinstance(critical, dict) else None
    return isinstance(image, dict) and image.get("docker-manifest-digest") == digest


def _statements(bundle: bytes, digest: str) -> Iterator[tuple[bytes, bytes]]:
    """The signatures of a bundle's statement with the bytes that they are over, if it is about the artifact."""
    envelope = _object(bundle).get("dsseEnvelope")
    if not isinstance(envelope, dict) or envelope.get("payloadType") != _STATEMENT:
        return
    payload = _decoded(str(envelope.get("payload", "")))
    if not _is_about(payload, digest):
        return
    kind = _STATEMENT.encode()
    signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    signatures = envelope.get("signatures")
    for signature in signatures if isinstance(signatures, list) else ():
        if isinstance(signature, dict):
            yield _decoded(str(signature.get("sig", ""))), signed


def _is_about(statement: bytes, digest: str) -> bool:
    """Whether a statement says that the artifact is signed: others, as of scans, approve of nothing."""
    content = _object(statement)
    algorithm, _, value = digest.partition(":")
    subjects = content.get("subject")
    if content.get("predicateType") != _SIGN or not isinstance(subjects, list):
        return False
    return any(
        isinstance(subject, dict)
        and isinstance(subject.get("digest"), dict)
        and subject["digest"].get(algorithm) == value
        for subject in subjects
    )


def _is_valid(key: PublicKey, signature: bytes, data: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
        else:
            key.verify(signature, data)
    except InvalidSignature:
        return False
    return True


# -- by identities -----------------------------------------------------------------------------------------------------


def keyless_bundles(
    digest: str, signatures: Sequence[Signature], bundles: Sequence[bytes]
) -> list[SignedBundle]:
    """All that may prove who signed an artifact, the newer form first, in the form that the toolbox verifies."""
    found = [SignedBundle(bundle.decode("utf-8", "replace")) for bundle in bundles]
    for signature in signatures:
        if names(signature.payload, digest) and _CERTIFICATE in signature.annotations:
            try:
                found.append(SignedBundle(_bundled(signature), signature.payload))
            except (KeyError, TypeError, ValueError):
                log.debug("a signature with a certificate cannot be read")
    return found


def _bundled(signature: Signature) -> str:
    """The older form written as a bundle. Raises KeyError, TypeError, ValueError for what is none."""
    certificate = ssl.PEM_cert_to_DER_cert(signature.annotations[_CERTIFICATE])
    material: dict[str, Any] = {
        "x509CertificateChain": {"certificates": [
            {"rawBytes": _encoded(certificate)}]},
    }  # fmt: skip
    if _LOG_ENTRY in signature.annotations:
        material["tlogEntries"] = [_log_entry(_object(signature.annotations[_LOG_ENTRY].encode()))]
    if _TIMESTAMP in signature.annotations:
        stamp = _object(signature.annotations[_TIMESTAMP].encode())["SignedRFC3161Timestamp"]
        material["timestampVerificationData"] = {"rfc3161Timestamps": [{"signedTimestamp": stamp}]}
    digest = hashlib.sha256(signature.payload).digest()
    bundle = {
        "mediaType": _OLD_BUNDLE,
        "verificationMaterial": material,
        "messageSignature": {
            "messageDigest": {"algorithm": "SHA2_256", "digest": _encoded(digest)},
            "signature": _encoded(signature.signature),
        },
    }
    return msgspec.json.encode(bundle).decode()


def _log_entry(entry: dict[str, Any]) -> dict[str, Any]:
    payload = entry["Payload"]
    body = _object(base64.b64decode(payload["body"]))
    return {
        "logIndex": str(int(payload["logIndex"])),
        "logId": {"keyId": _encoded(bytes.fromhex(payload["logID"]))},
        "kindVersion": {"kind": body["kind"], "version": body["apiVersion"]},
        "integratedTime": str(int(payload["integratedTime"])),
        "inclusionPromise": {"signedEntryTimestamp": entry["SignedEntryTimestamp"]},
        "canonicalizedBody": payload["body"],
    }


def _object(data: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


