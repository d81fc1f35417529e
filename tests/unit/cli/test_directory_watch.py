"""directory_watch: saves are told, changes in .git are not."""

from __future__ import annotations

import asyncio
from pathlib import Path

from headrace.cli.directory_watch import saves


async def first_save(directory: Path) -> None:
    async for _ in saves(directory):
        return


async def test_a_file_saved_in_a_new_directory_is_told(tmp_path: Path) -> None:
    async with asyncio.timeout(10):
        waiting = asyncio.create_task(first_save(tmp_path))
        number = 0
        while not waiting.done():
            number += 1
            (tmp_path / f"new{number}").mkdir()
            (tmp_path / f"new{number}" / "a.yaml").write_text("a: 1\n")
            await asyncio.wait([waiting], timeout=0.3)
        await waiting


async def test_a_change_in_the_own_repository_is_not_told(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    told: list[str] = []

    async def listen() -> None:
        async for _ in saves(tmp_path):
            told.append("save")
            return

    listening = asyncio.create_task(listen())
    for number in range(5):
        (tmp_path / ".git" / f"index{number}").write_text("x")
        await asyncio.wait([listening], timeout=0.1)
    assert told == []
    async with asyncio.timeout(10):
        while not listening.done():
            (tmp_path / "a.yaml").write_text("a: 1\n")
            await asyncio.wait([listening], timeout=0.3)
    assert told == ["save"]
