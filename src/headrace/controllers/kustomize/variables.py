"""The variables of post-build substitution: substituteFrom in order, then substitute (spec section 1.2)."""

from __future__ import annotations

import re

import msgspec

from headrace.api.kustomization import Kustomization, SubstituteReference
from headrace.controllers.object_data import not_found, read_data
from headrace.model.errors import Retry
from headrace.model.scope import Scope

BUILD_FAILED = "BuildFailed"

_NAME = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")


class Variables(msgspec.Struct, frozen=True, gc=False):
    """What is substituted. `versions` identify the objects the values came from, `secrets` are values that must not
    be shown."""

    values: dict[str, str] = {}
    versions: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()

    def masked(self, text: str) -> str:
        """`text` without values of Secrets, longest first; very short ones would mask everything."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, "***") if len(secret) > 3 else text
        return text


async def read_variables(ks: Kustomization, scope: Scope) -> Variables:
    """Raises Retry(BuildFailed) when an object is missing that is not optional, or a name cannot be used."""
    post_build = ks.spec.post_build
    if post_build is None:
        return Variables()
    values: dict[str, str] = {}
    versions: list[str] = []
    secrets: list[str] = []
    for source in post_build.substitute_from:
        found, version = await _read(source, ks.metadata.namespace, scope)
        values |= found
        versions.append(version)
        secrets += found.values() if source.kind == "Secret" else ()
    values |= {name: _one_line(value) for name, value in post_build.substitute.items()}
    for name in values:
        _check_name(name)
    return Variables(values, tuple(versions), tuple(secrets))


async def _read(source: SubstituteReference, namespace: str, scope: Scope) -> tuple[dict[str, str], str]:
    data = await read_data(source.kind, namespace, source.name, scope)
    if data is None:
        if source.optional:
            return {}, f"{source.kind}/{source.name}:absent"
        text = f"substitute from '{source.kind}/{source.name}' error: {not_found(source.kind, source.name)}"
        raise Retry(BUILD_FAILED, f"post build failed: {text}")
    found = {key: _one_line(value.decode(errors="replace")) for key, value in data.values.items()}
    return found, data.version


def _one_line(value: str) -> str:
    """Values lose their newlines, so that none can begin another field or document (KS-SUB-02, SEC-44)."""
    return value.replace("\n", "")


def _check_name(name: str) -> None:
    """Names are checked even when no manifest uses them (KS-SUB-09)."""
    if _NAME.fullmatch(name) is None:
        pattern = "^[_[:alpha:]][_[:alpha:][:digit:]]*$"
        raise Retry(BUILD_FAILED, f"post build failed: '{name[:253]}' var name is invalid, must match '{pattern}'")
