"""`headrace run`: the engine against any cluster, in the foreground, as it runs in a pod."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Mapping
from pathlib import Path

from headrace.cli.connect import client_config, cluster_errors
from headrace.cli.exits import FAILED, OK, USAGE, CommandError
from headrace.cli.flux_leases import refuse_beside_flux
from headrace.cli.runtime import Runtime
from headrace.core import log
from headrace.core.clock import SystemClock
from headrace.core.programs import ProgramNotBuilt
from headrace.kube.client import Client
from headrace.kube.config import ClientConfig
from headrace.kube.lease import LeaseLost
from headrace.settings import Settings, SettingsError, load

logger = logging.getLogger(__name__)


async def run(kubeconfig: Path | None, context: str | None, file: Path | None, flags: Mapping[str, object]) -> int:
    """Serve until SIGTERM or SIGINT. Returns OK after a drain, FAILED when the lease was lost.

    Raises CommandError(USAGE) on settings that cannot be used, CommandError(REFUSED) beside live Flux controllers.
    """
    settings = _settings(file, flags)
    log.configure(settings.log.log_level, settings.log.log_encoding)
    config = client_config(kubeconfig, context)
    stop = stop_on_signals()
    with cluster_errors(config.server):
        await _look_around(settings, config)
        try:
            await Runtime(settings, config).serve(stop)
        except LeaseLost as error:
            logger.error("stopped", extra={"error": str(error)})  # noqa: TRY400 - a stack tells nothing
            return FAILED
        except (OSError, ProgramNotBuilt) as error:
            raise CommandError(str(error), FAILED) from None
        except SettingsError as error:
            raise CommandError(str(error), USAGE) from None
    logger.info("stopped")
    return OK


def _settings(file: Path | None, flags: Mapping[str, object]) -> Settings:
    try:
        return load(flags, file=file)
    except SettingsError as error:
        raise CommandError(str(error), USAGE) from None


async def _look_around(settings: Settings, config: ClientConfig) -> None:
    if settings.engine.beside_flux:
        return
    async with Client(config) as client:
        await refuse_beside_flux(client, settings.engine.controllers, SystemClock())


def stop_on_signals() -> asyncio.Event:
    """Set by SIGINT and SIGTERM; a second one ends the process at once."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def told() -> None:
        stop.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told)
    return stop
