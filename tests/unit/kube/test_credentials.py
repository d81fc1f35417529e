from __future__ import annotations

from pathlib import Path

import pytest

from headrace.kube.config import ClientConfig, Credentials
from headrace.kube.credentials import REREAD, CredentialSource
from headrace.kube.errors import ConfigError
from tests.manual_clock import ManualClock


def source(clock: ManualClock, ca_file: str = "", **credentials: str) -> CredentialSource:
    config = ClientConfig(server="https://example.test", ca_file=ca_file, credentials=Credentials(**credentials))  # type: ignore[arg-type]
    return CredentialSource(config, clock)


async def test_basic_auth_is_encoded() -> None:
    material = await source(ManualClock(), username="Aladdin", password="open sesame").current()
    assert material.authorization == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="


@pytest.mark.spec("REL-21")
async def test_a_token_file_is_read_again_after_a_minute(tmp_path: Path) -> None:
    file, clock = tmp_path / "token", ManualClock()
    file.write_text("one\n")
    credentials = source(clock, token_file=str(file))
    assert (await credentials.current()).authorization == "Bearer one"
    file.write_text("two\n")
    assert (await credentials.current()).authorization == "Bearer one"
    clock.time += REREAD
    assert (await credentials.current()).authorization == "Bearer two"


@pytest.mark.spec("REL-21")
async def test_a_refused_token_is_read_again_at_once(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one")
    credentials = source(ManualClock(), token_file=str(file))
    used = await credentials.current()
    assert not await credentials.refresh(used)
    file.write_text("two")
    assert await credentials.refresh(used)
    assert (await credentials.current()).authorization == "Bearer two"


async def test_files_that_did_not_change_give_the_same_material(tmp_path: Path) -> None:
    ca, clock = tmp_path / "ca", ManualClock()
    ca.write_text("pem")
    credentials = source(clock, ca_file=str(ca))
    first = await credentials.current()
    clock.time += REREAD
    assert await credentials.current() is first


async def test_a_file_that_vanishes_does_not_take_down_what_works(tmp_path: Path) -> None:
    file, clock = tmp_path / "token", ManualClock()
    file.write_text("one")
    credentials = source(clock, token_file=str(file))
    await credentials.current()
    file.unlink()
    clock.time += REREAD
    assert (await credentials.current()).authorization == "Bearer one"


@pytest.mark.parametrize("content", [None, "", "two\nlines"])
async def test_a_file_that_gives_no_token_is_an_error(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError):
        await source(ManualClock(), token_file=str(file)).current()


async def test_static_credentials_have_nothing_to_refresh() -> None:
    credentials = source(ManualClock(), token="t")
    assert not await credentials.refresh(await credentials.current())
