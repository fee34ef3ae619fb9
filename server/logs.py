"""Structured logs: one JSON object a line on stderr."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import msgspec
import structlog

_encode = msgspec.json.Encoder(enc_hook=repr).encode


def _render(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> bytes:
    return _encode(event)


def configure(stream: TextIO | None = None) -> None:
    """Send every log line to ``stream`` (stderr when not given) as JSON, with time and level."""
    out = (stream or sys.stderr).buffer
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(20),
        logger_factory=structlog.BytesLoggerFactory(file=out),
        cache_logger_on_first_use=True,
    )
