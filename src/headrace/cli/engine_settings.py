"""The settings of the engine that serves a cluster, for commands that tell what it would do."""

from __future__ import annotations

import os

from headrace.cli.engine_socket import EngineSocket
from headrace.cli.exits import USAGE, CommandError
from headrace.core.duration import format_duration
from headrace.settings import LEAVES, Leaf, Settings, SettingsError, load

TOLD = ("apply", "tenancy", "leader_election")
"""The sections that decide what is delivered, and as whom; the last one for the namespace of the engine."""


def told(settings: Settings) -> dict[str, str]:
    """What is not the default in these sections, by flag. None of it is a secret."""
    found = {leaf.flag: (leaf, getattr(getattr(settings, leaf.section), leaf.name)) for leaf in LEAVES
             if leaf.section in TOLD}
    return {flag: _text(leaf, value) for flag, (leaf, value) in found.items() if value != leaf.default}


def _text(leaf: Leaf, value: object) -> str:
    if leaf.duration and isinstance(value, int | float):
        return format_duration(value)
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


async def engine_settings(server: str) -> Settings:
    """Those of the engine of this user that serves the cluster; without one, what HEADRACE_ variables say. Raises
    CommandError(USAGE) when they cannot be used."""
    async with EngineSocket(server) as engine:
        given = engine.info.settings if engine.info is not None else {}
    return settings_of(given)


def settings_of(given: dict[str, str]) -> Settings:
    """The environment, and what an engine has told before it. Raises CommandError(USAGE)."""
    try:
        return load(given, env=os.environ)
    except SettingsError as error:
        raise CommandError(str(error), USAGE) from None
