"""What a command knows of the engine's settings: from its socket, else from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.cli import paths
from headrace.cli.engine_settings import engine_settings, settings_of, told
from headrace.cli.exits import CommandError
from headrace.cli.options import kustomization_options
from headrace.edge.listen import serve_unix
from headrace.edge.state import EngineInfo, state_application
from headrace.settings import load
from tests.unit.edge.test_state import SERVER, Engine

CHOSEN = {
    "default-service-account": "tenant", "override-manager": "one,two", "no-remote-bases": "true", "prune-budget": "3",
    "runtime-namespace": "gitops", "sops-age-secret": "global",
}


def test_what_is_told_of_settings_gives_the_same_ones() -> None:
    settings = load({**CHOSEN, "concurrent": "7", "events-addr": "http://user:hidden@receiver/"}, env={})
    assert told(settings) == CHOSEN
    assert kustomization_options(load(told(settings), env={})) == kustomization_options(settings)
    assert told(load(env={})) == {}


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime directory of one's own, for the socket."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


async def test_the_engine_that_serves_the_cluster_is_asked_and_goes_before_the_environment(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_DEFAULT_SERVICE_ACCOUNT", "of-the-shell")
    assert (await engine_settings(SERVER)).tenancy.default_service_account == "of-the-shell"
    info = EngineInfo("1", SERVER, 7, True, ("Kustomization",), CHOSEN)
    app = state_application(Engine(), lambda: info, lambda: 100.0)
    async with serve_unix(app, paths.socket(SERVER)):
        assert (await engine_settings(SERVER)).tenancy.default_service_account == "tenant"
        assert (await engine_settings("https://other:6443")).tenancy.default_service_account == "of-the-shell"


def test_a_setting_that_cannot_be_used_is_an_error_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_TENANCY", "other")
    with pytest.raises(CommandError, match="tenancy must be flux or strict"):
        settings_of({})
