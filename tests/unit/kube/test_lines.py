from __future__ import annotations

import pytest

from headrace.kube.errors import ResponseTooLarge
from headrace.kube.lines import LineSplitter


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_lines_come_out_whole_however_the_stream_is_cut(size: int) -> None:
    stream = b'{"a":1}\n{"b":"two"}\n\n{"c":3}\n'
    splitter = LineSplitter(100)
    lines = [line for i in range(0, len(stream), size) for line in splitter.feed(stream[i : i + size])]
    assert lines == [b'{"a":1}', b'{"b":"two"}', b'{"c":3}']
    assert not splitter.unfinished


def test_a_line_of_many_megabytes_is_one_line() -> None:
    line = b"x" * (5 * 1024 * 1024)
    splitter = LineSplitter(16 * 1024 * 1024)
    stream = line + b"\nrest"
    lines = [found for i in range(0, len(stream), 65536) for found in splitter.feed(stream[i : i + 65536])]
    assert lines == [line]
    assert splitter.unfinished


def test_a_stream_that_ends_within_a_line_is_told() -> None:
    splitter = LineSplitter(100)
    assert splitter.feed(b'{"a":1}\n{"b"') == [b'{"a":1}']
    assert splitter.unfinished


@pytest.mark.parametrize("chunks", [[b"x" * 11], [b"x" * 6, b"x" * 6], [b"ok\n" + b"x" * 11]])
def test_a_line_without_end_is_refused(chunks: list[bytes]) -> None:
    splitter = LineSplitter(10)
    for chunk in chunks[:-1]:
        splitter.feed(chunk)
    with pytest.raises(ResponseTooLarge):
        splitter.feed(chunks[-1])
