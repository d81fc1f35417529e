"""Log lines: one per record, with Flux's keys, without secrets."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from headrace.core import log


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, redactions = root.handlers[:], root.level, log._redactions[:]
    yield
    root.handlers[:], log._redactions[:] = handlers, redactions
    root.setLevel(level)


def _logged(encoding: str, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    log.configure(level, encoding, stream)
    return stream


def test_a_json_line_has_the_keys_of_flux() -> None:
    stream = _logged("json")
    logging.getLogger("x").info("stored %s", "it", extra={"revision": "main@sha1:1", "size": 3})
    line = json.loads(stream.getvalue())
    assert line.pop("ts").endswith("Z")
    assert line == {"level": "info", "logger": "x", "msg": "stored it", "revision": "main@sha1:1", "size": 3}


@pytest.mark.parametrize("encoding", ["json", "text"])
def test_what_is_redacted_is_in_no_message_field_or_stack(encoding: str) -> None:
    stream = _logged(encoding)
    log.add_redaction(lambda text: text.replace("canary", "***"))
    try:
        raise RuntimeError("canary")
    except RuntimeError:
        logging.getLogger("x").exception("canary in %s", "canary", extra={"url": "https://canary@host"})
    assert "canary" not in stream.getvalue()
    assert stream.getvalue().count("***") >= 4


def test_levels_are_obeyed() -> None:
    stream = _logged("text", "error")
    logging.getLogger("x").info("quiet")
    logging.getLogger("x").error("loud", extra={"kind": "A"})
    assert "quiet" not in stream.getvalue()
    assert "error   loud  kind=A" in stream.getvalue()


@pytest.mark.parametrize(("level", "encoding"), [("loud", "json"), ("info", "xml")])
def test_unknown_settings_are_refused(level: str, encoding: str) -> None:
    with pytest.raises(ValueError, match=level if level == "loud" else encoding):
        log.configure(level, encoding)
