"""Logging: constant event names with fields, on stderr or in a file, one line each.

Rooms call `logging.getLogger(__name__)` and log `log.info("object.fetched", extra=fields(digest=…, took_s=…))`.
`configure` is called once, by the edge. In a terminal structlog renders with colours; a background process writes one
JSON line per event; where structlog is absent (a boot loader) the line is plain `key=value` text.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import IO, Any

_FIELDS = "cvm_fields"


def fields(**values: object) -> dict[str, dict[str, object]]:
    """The `extra` of a log call: fields that may have any name, kept apart from logging's own."""
    return {_FIELDS: values}


def configure(
    *, level: int = logging.INFO, stream: IO[str] | None = None, as_json: bool | None = None
) -> None:
    """Send all events of `level` and above to `stream` (stderr); JSON unless that is a terminal."""
    target = stream or sys.stderr
    handler = logging.StreamHandler(target)
    use_json = not target.isatty() if as_json is None else as_json
    handler.setFormatter(JsonFormatter() if use_json else _terminal_formatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for noisy in ("botocore", "urllib3", "slixmpp", "uvicorn.access", "asyncio"):
        logging.getLogger(noisy).setLevel(max(level, logging.WARNING))


class JsonFormatter(logging.Formatter):
    """One JSON object per line: `time`, `level`, `event`, `logger`, then the event's fields."""

    def format(self, record: logging.LogRecord) -> str:
        row: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info:
            row["exception"] = self.formatException(record.exc_info)
        return json.dumps(row, default=str, ensure_ascii=False)


class PlainFormatter(logging.Formatter):
    """`time level event key=value …`, for consoles without structlog."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
        values: dict[str, object] = getattr(record, _FIELDS, {})
        tail = "".join(f" {key}={value}" for key, value in values.items())
        line = f"{moment} {record.levelname.lower():7} {record.getMessage()}{tail}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _terminal_formatter() -> logging.Formatter:
    try:
        import structlog  # noqa: PLC0415  # absent in the boot loader
    except ImportError:
        return PlainFormatter()

    def add_fields(_logger: object, _name: str, event: Any) -> Any:
        record: logging.LogRecord = event["_record"]
        event.update(getattr(record, _FIELDS, {}))
        return event

    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
        ],
        processors=[
            add_fields,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.dev.ConsoleRenderer(pad_event_to=30),
        ],
    )
