"""Logging: standard loggers, one line per record, as JSON (default) or text; secrets are taken out at the last moment.

Fields go in by `extra`: `log.info("stored artifact", extra={"kind": kind, "revision": revision})`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

import orjson

LEVELS = {"trace": logging.DEBUG, "debug": logging.DEBUG, "info": logging.INFO, "error": logging.ERROR}
ENCODINGS = ("json", "console", "text")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

Redaction = Callable[[str], str]
_redactions: list[Redaction] = []


def add_redaction(redaction: Redaction) -> None:
    """Pass every text that is logged through `redaction` from now on. It must not depend on where a text begins or
    ends: texts are looked at together."""
    if redaction not in _redactions:
        _redactions.append(redaction)


def redact(text: str) -> str:
    """`text` as it may be shown."""
    for redaction in _redactions:
        text = redaction(text)
    return text


def configure(level: str = "info", encoding: str = "json", stream: TextIO | None = None) -> None:
    """Set up the root logger. Levels and encodings are Flux's (`--log-level`, `--log-encoding`), and `text`.

    Raises ValueError on an unknown level or encoding.
    """
    if level not in LEVELS or encoding not in ENCODINGS:
        raise ValueError(f"unknown log level '{level}' or encoding '{encoding}'")
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if encoding == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])
    for noisy in ("aiohttp.access", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class JsonFormatter(logging.Formatter):
    """`{"level":"info","ts":"...","logger":"...","msg":"...", fields}`: the keys of Flux's logs."""

    def format(self, record: logging.LogRecord) -> str:
        message, fields = _shown(record)
        line: dict[str, object] = {
            "level": record.levelname.lower(),
            "ts": _timestamp(record),
            "logger": record.name,
            "msg": message,
            **fields,
        }
        if record.exc_info:
            line["stacktrace"] = redact(self.formatException(record.exc_info))
        return orjson.dumps(line, default=_text, option=orjson.OPT_NON_STR_KEYS).decode()


class TextFormatter(logging.Formatter):
    """`11:47:42.123 info  message  key=value`, for people."""

    def format(self, record: logging.LogRecord) -> str:
        message, fields = _shown(record)
        line = f"{_timestamp(record)[11:23]} {record.levelname.lower():<7} {message}"
        if fields:
            line = f"{line}  {' '.join(f'{key}={value}' for key, value in fields.items())}"
        if record.exc_info:
            line += "\n" + redact(self.formatException(record.exc_info))
        return line


def _shown(record: logging.LogRecord) -> tuple[str, dict[str, str | int | float]]:
    """Message and fields as they may be shown. Most hold no secret, which one look at all of them together tells: a
    redaction finds in the whole what it finds in a part."""
    message, fields = record.getMessage(), _fields(record)
    whole = "\n".join((message, *map(str, fields.values())))
    if redact(whole) == whole:
        return message, fields
    return redact(message), {
        key: redact(value) if isinstance(value, str) else value for key, value in fields.items()}


def _fields(record: logging.LogRecord) -> dict[str, str | int | float]:
    extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    return {key: value if isinstance(value, int | float) else _text(value) for key, value in extra.items()}


def _timestamp(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(value: object) -> str:
    return str(value)
