"""The real toolbox: nothing here is worth testing against a stand-in. Without the binary these tests are skipped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from headrace.toolbox import Toolbox
from headrace.toolbox.binary import ToolboxMissing, find_toolbox

Files = Mapping[str, str]


@pytest.fixture(scope="session")
def binary() -> Path:
    try:
        return find_toolbox()
    except ToolboxMissing as missing:
        pytest.skip(str(missing))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def toolbox(binary: Path) -> AsyncIterator[Toolbox]:
    async with Toolbox(binary, size=1) as pool:
        yield pool


@pytest.fixture
def tree(tmp_path: Path) -> Callable[[Files], str]:
    """Writes a source tree and returns its root."""

    def write(files: Files) -> str:
        root = tmp_path / "tree"
        root.mkdir(exist_ok=True)
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return str(root)

    return write
