"""Indexes taken apart, normalised and looked up; without the repository and the network."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from headrace.source.helm.calls import yaml_reader
from headrace.source.helm.errors import IndexRefused
from headrace.source.helm.index import WHOLE_BYTES, Lookup, normalise
from headrace.source.helm.index_stream import NotInBlocks, pieces
from headrace.toolbox import Toolbox

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def toolbox() -> AsyncIterator[Toolbox]:
    async with Toolbox(size=1) as pool:
        yield pool


async def kept(toolbox: Toolbox, tmp_path: Path, text: bytes) -> dict[str, Any]:
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(text)
    with target.open("wb") as file, tempfile.TemporaryFile() as scratch:
        await normalise(source, file, scratch, yaml_reader(toolbox))
    content: dict[str, Any] = json.loads(target.read_bytes())
    return content


BLOCKS = b"""# made by hand
apiVersion: v1
entries:
  # a comment
  app:
  - name: app
    version: 1.0.0
    appVersion: 1.10
    description: "two
      lines"
    annotations:
      text: |
        - not: an item

        entries:
      number: 7
    urls:
    - a.tgz

  - version: 1.2.0
    name: app
  "quoted":
    - name: quoted
      version: 0.1.0
  empty: # nothing
generated: "2024-01-01T00:00:00Z"
"""


async def test_an_index_in_blocks_is_cut_at_its_versions() -> None:
    cut = list(pieces(io.BytesIO(BLOCKS)))
    assert [(piece.chart, piece.text.strip()[:11]) for piece in cut] == [
        ("app", b"- name: app"), ("app", b"- version: "), ("quoted", b"- name: quo"), ("empty", b""),
        ("", b"# made by h"),
    ]  # fmt: skip


async def test_all_styles_of_one_index_are_kept_alike(toolbox: Toolbox, tmp_path: Path) -> None:
    blocks = await kept(toolbox, tmp_path, BLOCKS)
    app = blocks["entries"]["app"]
    assert [entry["version"] for entry in app] == ["1.2.0", "1.0.0"]
    assert app[1]["appVersion"] == "1.1"
    assert app[1]["description"] == "two lines"
    assert app[1]["annotations"] == {"text": "- not: an item\n\nentries:\n", "number": "7"}
    assert (app[0]["urls"], app[0]["created"], app[0]["apiVersion"]) == (None, "0001-01-01T00:00:00Z", "v1")
    assert blocks["entries"]["empty"] == []
    as_json = await kept(toolbox, tmp_path, json.dumps(blocks).encode())
    assert as_json == blocks
    flow = b"apiVersion: v1\ngenerated: '2024-01-01T00:00:00Z'\nentries: " + json.dumps(blocks["entries"]).encode()
    assert await kept(toolbox, tmp_path, flow) == blocks


async def test_a_text_that_goes_on_further_left_is_read_whole(toolbox: Toolbox, tmp_path: Path) -> None:
    text = b'apiVersion: v1\nentries:\n  app:\n  - name: app\n    version: 1.0.0\n    description: "one\n  - two"\n'
    content = await kept(toolbox, tmp_path, text)
    assert content["entries"]["app"][0]["description"] == "one - two"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(b"apiVersion: v1\nentries:\n  a:\n  - {name: a, version: 1.0.0}\n  a:\n  - {name: a}\n",
                     "already", id="a chart twice"),
        pytest.param(b"apiVersion: v1\nentries:\n  a:\n  - name: a\n    name: b\n    version: 1.0.0\n",
                     "already", id="a field twice"),
        pytest.param(b"apiVersion: v1\napiVersion: v1\nentries: {}\n", "already", id="a field of the index twice"),
        pytest.param(b"apiVersion: v1\nentries:\n  a:\n  - *nothing\n", "anchor", id="an unknown alias"),
        pytest.param(b"apiVersion: v1\nentries: [1]\n", "Expected", id="entries that are a list"),
        pytest.param(b"apiVersion: v1\nentries:\n  a:\n  - name: {b: c}\n", "Expected", id="a map for a text"),
    ],
)  # fmt: skip
async def test_what_strict_yaml_refuses_is_refused(toolbox: Toolbox, tmp_path: Path, text: bytes, said: str) -> None:
    with pytest.raises(IndexRefused, match=said):
        await kept(toolbox, tmp_path, text)


async def test_a_large_index_that_cannot_be_cut_is_refused(toolbox: Toolbox, tmp_path: Path) -> None:
    text = b"apiVersion: v1\nentries: {\n" + b" " * WHOLE_BYTES + b"}\n"
    with pytest.raises(IndexRefused, match="cannot be read in parts"):
        await kept(toolbox, tmp_path, text)
    with pytest.raises(NotInBlocks):
        list(pieces(io.BytesIO(b"entries:\n  app:\n  - a: " + b"x" * 5_000_000 + b"\n")))


async def test_a_kept_index_is_looked_up_chart_by_chart(toolbox: Toolbox, tmp_path: Path) -> None:
    await kept(toolbox, tmp_path, BLOCKS)
    lookup = Lookup(tmp_path / "out")
    assert ("app" in lookup, "quoted" in lookup, "none" in lookup) == (True, True, False)
    assert [one.version for one in lookup.versions(tmp_path / "out", "app")] == ["1.2.0", "1.0.0"]
    assert lookup.versions(tmp_path / "out", "empty") == []
    (tmp_path / "out").write_bytes(b"{}\n")
    with pytest.raises(IndexRefused):
        Lookup(tmp_path / "out")
