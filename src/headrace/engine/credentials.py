"""Which values of a Secret are secret: what a run has read is registered, so that it appears in nothing it says."""

from __future__ import annotations

import base64
import binascii
import re

import msgspec

from headrace.core.secrecy import register
from headrace.model.objects import LiveObject
from headrace.model.reference import Reference

SECRET = ("", "Secret")

_OPEN_KEYS = re.compile(r"(?i)(.*\.(crt|pem|pub|sshpub)|ca\.crt|caFile|certFile|username|known_hosts|address|region)$")
"""Keys whose values are public, and whose words would be missed in messages."""
_CREDENTIAL_LINE = re.compile(
    r"(?im)^\s*[\"']?[\w.-]*(?:token|password|secret|key|key-data)[\"']?\s*[:=]\s*[\"']?([^\s\"',]+)")
_DENSE_LINE = re.compile(r"(?m)^\s*([A-Za-z0-9+/=_-]{24,})\s*$")


class _Data(msgspec.Struct, frozen=True, gc=False):
    data: dict[str, str] | None = None


def register_secrets(live: LiveObject) -> None:
    """Register the values of a Secret that was read. Of values with several lines (keys, kubeconfigs) the lines that
    hold credentials are registered too, since error messages quote single lines."""
    for key, encoded in (msgspec.json.decode(live.raw, type=_Data).data or {}).items():
        if _OPEN_KEYS.match(key):
            continue
        try:
            value = base64.b64decode(encoded).decode()
        except (binascii.Error, UnicodeDecodeError):
            register(encoded)
            continue
        register(value)
        if "\n" in value.strip():
            for secret in (*_CREDENTIAL_LINE.findall(value), *_DENSE_LINE.findall(value)):
                register(secret)


def is_secret(reference: Reference) -> bool:
    """Whether the content of an object must not be shown."""
    return reference.group_kind == SECRET
