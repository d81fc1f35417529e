"""Signatures of commits and tags, verified over the very bytes of the object (SRC-GIT-37..42, SEC-34).

An object that can be read in two ways, with a header twice, is refused before anybody looks at its signature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncssh
    import pysequoia

_SSH, _PGP, _X509 = "-----BEGIN SSH SIGNATURE-----", "-----BEGIN PGP SIGNATURE-----", "-----BEGIN SIGNED MESSAGE-----"
_BEGIN = re.compile(rb"^-----BEGIN (SSH SIGNATURE|PGP SIGNATURE|PGP MESSAGE|SIGNED MESSAGE)-----", re.MULTILINE)
_ONCE = (b"tree", b"author", b"committer", b"gpgsig", b"gpgsig-sha256", b"object", b"type", b"tag", b"tagger")
_SSH_KEYS = ".sshpub"
_SSH_MAGIC = b"SSHSIG"
_SSH_NAMESPACE = b"git"
_SSH_HASHES = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
_SSH_WEAK = (b"ssh-rsa", b"ssh-dss")


class SignatureInvalid(Exception):
    """A signature is missing, damaged, or by no trusted key. The message is for users."""


class KeysUnreadable(Exception):
    """The trusted keys cannot be read. The message is for users."""


@dataclass(frozen=True, slots=True)
class Signed:
    """The bytes that were signed, and the armored signature; empty when there is none."""

    payload: bytes
    signature: str
    headers: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class TrustedKeys:
    """Whose signatures count."""

    ssh: Sequence[asyncssh.SSHKey]
    pgp: Sequence[pysequoia.Cert]


def trusted_keys(secret: Mapping[str, bytes]) -> TrustedKeys:
    """`*.sshpub` hold lines of authorized_keys, every other key OpenPGP certificates. Raises KeysUnreadable."""
    import pysequoia  # only when it is needed, as asyncssh below

    ssh: list[asyncssh.SSHKey] = []
    pgp: list[pysequoia.Cert] = []
    for name, data in sorted(secret.items()):
        try:
            if name.endswith(_SSH_KEYS):
                ssh += _ssh_keys(data.decode())
            else:
                pgp += pysequoia.Cert.split_bytes(data)
        except Exception as error:  # noqa: BLE001 - pysequoia raises whatever it likes
            raise KeysUnreadable(f"unable to read the public keys in '{name}': {error}") from None
    return TrustedKeys(ssh, pgp)


def _ssh_keys(text: str) -> list[asyncssh.SSHKey]:
    from asyncssh import import_public_key  # only when it is needed: it is large

    lines = (line.strip() for line in text.splitlines())
    return [import_public_key(line) for line in lines if line and not line.startswith("#")]


def signed_commit(raw: bytes) -> Signed:
    """Take a commit's signature out of its headers. Raises SignatureInvalid when it has a header twice."""
    head, separator, body = raw.partition(b"\n\n")
    kept: list[bytes] = []
    signature: list[bytes] = []
    name = b""
    for line in head.split(b"\n"):
        name = name if line.startswith(b" ") else line.partition(b" ")[0]
        if name not in (b"gpgsig", b"gpgsig-sha256"):
            kept.append(line)
        elif name == b"gpgsig":
            signature.append(line.removeprefix(b"gpgsig").removeprefix(b" "))
    payload = b"\n".join(kept) + separator + body
    return Signed(payload, b"\n".join(signature).decode("ascii", "replace"), _headers(head))


def signed_tag(raw: bytes) -> Signed:
    """Take a tag's signature from the end of its message. Raises SignatureInvalid when it has a header twice."""
    found = list(_BEGIN.finditer(raw))
    start = found[-1].start() if found else len(raw)
    return Signed(raw[:start], raw[start:].decode("ascii", "replace"), _headers(raw.partition(b"\n\n")[0]))


def _headers(head: bytes) -> dict[bytes, bytes]:
    pairs = [line.partition(b" ")[::2] for line in head.split(b"\n") if not line.startswith(b" ")]
    often = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1 and name in _ONCE]
    if often:
        raise SignatureInvalid(f"malformed object: header '{often[0].decode()}' is there more than once")
    return dict(pairs)


def verify(signed: Signed, keys: TrustedKeys) -> str:
    """The key that made the signature, as users know it: the fingerprint of an SSH key, the id of an OpenPGP key.

    Raises SignatureInvalid. The type of the signature decides which keys count (SRC-GIT-42).
    """
    text = signed.signature.strip()
    if not text:
        raise SignatureInvalid("the object is not signed")
    if text.startswith(_SSH):
        return _verify_ssh(signed.payload, text, keys.ssh)
    if text.startswith(_X509):
        raise SignatureInvalid("unsupported signature type: x509")
    if not text.startswith("-----BEGIN PGP "):
        raise SignatureInvalid("unsupported signature type")
    return _verify_pgp(signed.payload, text, keys.pgp)


def _verify_pgp(payload: bytes, signature: str, certificates: Sequence[pysequoia.Cert]) -> str:
    if not certificates:
        raise SignatureInvalid("the signature is of OpenPGP, and there are no OpenPGP keys in the secret")
    import pysequoia

    try:
        detached = pysequoia.Sig.from_bytes(signature.encode())
        found = pysequoia.verify(bytes=payload, store=lambda ids: list(certificates), signature=detached)
    except Exception:  # noqa: BLE001 - pysequoia raises whatever it likes
        raise SignatureInvalid("unable to verify payload with any of the given key rings") from None
    if not found.valid_sigs:
        raise SignatureInvalid("unable to verify payload with any of the given key rings")
    return str(found.valid_sigs[0].certificate)[-16:].upper()


def _verify_ssh(payload: bytes, armored: str, keys: Sequence[asyncssh.SSHKey]) -> str:
    """The format of OpenSSH's PROTOCOL.sshsig, with git's namespace."""
    if not keys:
        raise SignatureInvalid("the signature is of SSH, and there are no '*.sshpub' keys in the secret")
    try:
        blob = base64.b64decode("".join(armored.splitlines()[1:-1]), validate=True)
        public, namespace, reserved, algorithm, signature = _fields(blob)
        digest = _SSH_HASHES[algorithm](payload).digest()
    except (binascii.Error, ValueError, KeyError):
        raise SignatureInvalid("the SSH signature cannot be read") from None
    if namespace != _SSH_NAMESPACE:
        raise SignatureInvalid("the SSH signature is not for git")
    key = next((key for key in keys if key.public_data == public), None)
    message = _SSH_MAGIC + b"".join(map(_string, (namespace, reserved, algorithm, digest)))
    if key is None or _first_string(signature)[0] in _SSH_WEAK or not key.verify(message, signature):
        raise SignatureInvalid("unable to verify payload with any of the given SSH keys")
    return str(key.get_fingerprint())


def _fields(blob: bytes) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    if not blob.startswith(_SSH_MAGIC + b"\0\0\0\x01"):
        raise ValueError("not version 1")
    rest = blob[10:]
    fields = []
    for _ in range(5):
        field, rest = _first_string(rest)
        fields.append(field)
    if rest:
        raise ValueError("bytes are left")
    public, namespace, reserved, algorithm, signature = fields
    return public, namespace, reserved, algorithm, signature


def _first_string(data: bytes) -> tuple[bytes, bytes]:
    length = int.from_bytes(data[:4], "big")
    if len(data) < 4 + length:
        raise ValueError("ends too early")
    return data[4 : 4 + length], data[4 + length :]


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data
