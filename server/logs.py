"""Structured logs: one JSON object a line on stderr; a lean path of its own for the line of each request."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any, Final, TextIO

import msgspec
import structlog

from ledger.times import to_text
from server import faults

PIECE_SIZE_MAX: Final = 4096
"""Bytes that a pipe takes as one piece, whoever else writes to it: ``PIPE_BUF`` of Linux."""

_encode = msgspec.json.Encoder(enc_hook=repr).encode


class Access(msgspec.Struct, frozen=True):
    """The audit line of one request: who read or changed what, and how it went. It never holds a secret.

    ``status`` is null where the client left before it had an answer. ``user`` is whom the request acted for, ``by`` the
    admin who did so. What ``resource`` and ``outcome`` can say is in ``server.audit``.
    """

    timestamp: str
    event: str
    request_id: str
    method: str
    route: str
    resource: str
    status: int | None
    outcome: str
    user: str | None
    token: str | None
    by: str | None
    project: str | None
    duration_us: int
    events_sent: int | msgspec.UnsetType = msgspec.UNSET
    level: str = "info"


class Stamps:
    """Times as ``to_text`` writes them, for lines that mostly fall into the second of the line before."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def of(self, time_us: int) -> str:
        """Return the time as text."""
        second, micro = divmod(time_us, 1_000_000)
        if second != self._second:
            self._second, self._text = second, to_text(time_us)[:20]
        return f"{self._text}{micro:06d}Z"


class AccessLogger(structlog.BoundLoggerBase):
    """A structlog logger for one kind of line: encoded at once, without a chain of processors."""

    def request(self, line: Access) -> None:
        """Write the line of a request at the end of this turn of the event loop, with the other lines of the turn."""
        lines = self._context["lines"]
        lines.append(_encode(line))
        if len(lines) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        lines = self._context["lines"]
        texts = list(_pieces(lines))
        lines.clear()  # before they are written: should that fail, the next ones still go
        for text in texts:
            self._logger.msg(text)


def _pieces(lines: Sequence[bytes]) -> Iterator[bytes]:
    """Yield lines joined to as much as goes into a pipe in one piece: other workers write their lines to the same."""
    begin = size = 0
    for end, line in enumerate(lines):
        size += len(line) + 1
        if size > PIECE_SIZE_MAX and end > begin:
            yield b"\n".join(lines[begin:end])
            begin, size = end, len(line) + 1
    yield b"\n".join(lines[begin:])


def _render(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> bytes:
    return _encode(event)


class Foreign(logging.Handler):
    """Writes what libraries log as lines of ours: where it was said, how gravely, and the kind of error.

    Their words are left out: they may quote requests, and run over many lines.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(logging.WARNING)
        self.stream = stream
        """Held on to: what is written to is its buffer, which is closed once nobody has the stream any more."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; where that fails, the library that said it goes on."""
        try:
            self._write(record)
        except Exception:  # noqa: BLE001 - of whatever kind: this is called from inside libraries
            self.handleError(record)

    @staticmethod
    def _write(record: logging.LogRecord) -> None:
        error = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        where = f"{record.name}, {record.module}.{record.funcName} line {record.lineno}"
        structlog.get_logger().log(record.levelno, "library", where=where, error=error)


def configure(stream: TextIO | None = None) -> None:
    """Send every log line to ``stream`` (stderr when not given) as JSON, with time and level; libraries' too."""
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, Foreign)]:
        root.removeHandler(handler)
    stream = stream or sys.stderr
    root.addHandler(Foreign(stream))
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,  # which worker it is
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            faults.tell,
            _render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(20),
        logger_factory=structlog.BytesLoggerFactory(file=stream.buffer),
        # What is cached would outlive a stream that was closed; the lines of requests have a quick way of their own.
        cache_logger_on_first_use=False,
    )


def access_logger() -> AccessLogger:
    """Return the logger of requests, on the stream that ``configure`` named."""
    factory = structlog.get_config()["logger_factory"]
    logger: AccessLogger = structlog.wrap_logger(factory(), processors=[], wrapper_class=AccessLogger).bind(lines=[])
    return logger
