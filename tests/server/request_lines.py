"""The lines that a server logs of requests, as tests read them."""

from __future__ import annotations

from typing import Any

import msgspec


def lines_of(log_lines) -> list[dict[str, Any]]:
    """The lines of requests so far. Each is one line, also for readers to whom U+2028 ends one."""
    every = [msgspec.json.decode(line) for line in log_lines.getvalue().decode().splitlines()]
    return [line for line in every if line["event"] == "request"]


def line_of(log_lines, answer) -> dict[str, Any]:
    """The one line of a request that was answered."""
    (line,) = [each for each in lines_of(log_lines) if each["request_id"] == answer.headers["X-Request-Id"]]
    return line
