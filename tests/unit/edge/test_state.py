"""state: the engine's answers on its socket, and the client of the command line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace.cli.engine_socket import EngineSocket
from headrace.edge.listen import serve_unix
from headrace.edge.state import EngineInfo, state_application
from headrace.engine.trace import ObjectState
from headrace.model.reference import Reference
from headrace.model.trace import Cause, Trace

SERVER = "https://cluster:6443"
APP = Reference("kustomize.toolkit.fluxcd.io", "Kustomization", "apps", "app")


class Engine:
    """One object that waits."""

    def known(self) -> tuple[Reference, ...]:
        return (APP,)

    def state(self, reference: Reference) -> ObjectState | None:
        return ObjectState(APP, "idle", next_in=30.0, waiting_on=(APP,)) if reference == APP else None

    def traces(self, reference: Reference) -> tuple[Trace, ...]:
        return (Trace(APP, 1.0, 0.5, (Cause("spec"),), (), (), ("a note",), "failure", "BuildFailed", "no"),)


@pytest.fixture
async def socket(tmp_path: Path) -> AsyncIterator[Path]:
    app = state_application(Engine(), lambda: EngineInfo("1", SERVER, 7, True, ("Kustomization",)), lambda: 100.0)
    async with serve_unix(app, tmp_path / "engine.sock") as path:
        yield path


async def test_an_object_comes_with_its_state_and_traces(socket: Path) -> None:
    async with EngineSocket(SERVER, socket) as engine:
        assert engine.info is not None
        assert engine.info.pid == 7
        answer = await engine.object(APP)
    assert answer is not None
    assert answer.at == 100.0
    assert answer.state is not None
    assert (answer.state.next_in, answer.state.waiting_on) == (30.0, (APP,))
    assert answer.traces[0].notes == ("a note",)


async def test_an_engine_of_another_cluster_is_not_asked(socket: Path) -> None:
    async with EngineSocket("https://other:6443", socket) as engine:
        assert engine.info is None
        assert await engine.object(APP) is None


async def test_without_an_engine_there_is_no_answer(tmp_path: Path) -> None:
    async with EngineSocket(SERVER, tmp_path / "nobody.sock") as engine:
        assert engine.info is None


async def test_an_object_nobody_knows_has_no_state(socket: Path) -> None:
    async with EngineSocket(SERVER, socket) as engine:
        answer = await engine.object(Reference(APP.group, APP.kind, "apps", "other"))
    assert answer is not None
    assert answer.state is None
