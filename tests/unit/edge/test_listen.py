"""listen: addresses and the Unix socket."""

from __future__ import annotations

import stat
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from headrace.edge.listen import parse_address, serve, serve_unix


@pytest.mark.parametrize(
    ("address", "wanted"),
    [(":8080", (None, 8080)), ("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:80", ("::1", 80)), ("h:1", ("h", 1))],
)
def test_addresses_are_those_of_go(address: str, wanted: tuple[str | None, int]) -> None:
    assert parse_address(address) == wanted


@pytest.mark.parametrize("address", ["", "8080", "host", "host:port", ":70000"])
def test_no_address_is_an_error(address: str) -> None:
    with pytest.raises(ValueError, match="no address"):
        parse_address(address)


def app() -> web.Application:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="here")

    made = web.Application()
    made.router.add_get("/", answer)
    return made


async def test_a_free_port_is_told() -> None:
    async with serve(app(), "127.0.0.1:0") as address, aiohttp.ClientSession() as session:
        async with session.get(f"http://{address}/") as answer:
            assert await answer.text() == "here"


async def test_the_socket_is_for_this_user_only_and_goes_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "run" / "engine.sock"
    path.parent.mkdir()
    path.write_text("left behind")
    async with serve_unix(app(), path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
            async with session.get("http://engine/") as answer:
                assert await answer.text() == "here"
    assert not path.exists()


async def test_a_path_that_is_no_socket_s_is_named_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 120)
    with pytest.raises(OSError, match="cannot listen on '.*xxx'.*--socket names another path"):
        async with serve_unix(web.Application(), path):
            pass
