"""Scalar types of the wire, with what a JSON schema says of them: ids, labels, times, durations.

What ``extra_json_schema`` says is only told, not checked by msgspec: ``ids``, ``times`` and ``limits`` check it, with
messages of their own.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import Meta

from ledger import ids
from ledger.transitions import KINDS, STOP_REASONS, statuses

DURATION_MAX_NS: Final = 2**63 - 1
"""What SQLite and clients hold in an integer; 292 years."""
TIMEOUT_MAX_S: Final = 10 * 365 * 86400.0
"""Ten years: beyond any job, and far from overflowing microseconds."""
URL_SIZE_MAX: Final = 2048
"""Characters of a callback URL."""

_NAME: Final = r"([A-Za-z0-9_-]{1,63}\.){0,8}[A-Za-z0-9_-]{0,31}[A-Za-z_-][A-Za-z0-9_-]{0,31}"
_BYTE: Final = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_ADDRESS: Final = rf"{_BYTE}(\.{_BYTE}){{3}}|\[[0-9A-Fa-f:.]{{2,45}}\]"
URL_PATTERN: Final = rf'^https?://({_NAME}|{_ADDRESS})(:[0-9]{{1,5}})?([/?][!"$-\[\]-~]*)?$'
r"""The form of a callback URL: a name or an address, a port, and ASCII without blanks, ``#`` and ``\`` (RFC 3986)."""
NAME_SIZE_MAX: Final = 1024
"""Characters of the name of a model, an endpoint, an error type."""
TOKENS_MAX: Final = 10**12
"""Tokens of one step: far beyond any model, and sums over millions of steps still fit in 64 bits."""
TAGS_MAX: Final = 100
"""Tags of a step."""

LABEL: Final[dict[str, Any]] = {"minLength": 1, "maxLength": ids.LABEL_SIZE_MAX, "pattern": ids.LABEL_PATTERN}

NOT_EMPTY: Final = Meta(extra_json_schema={"minItems": 1})
"""Of a list: it holds something."""

JobId = Annotated[str, Meta(extra_json_schema={"pattern": ids.pattern("job")})]
JobOrRunId = Annotated[str, Meta(extra_json_schema={"pattern": ids.pattern("job", "run")})]
RunId = Annotated[str, Meta(extra_json_schema={"pattern": ids.pattern("run")})]
StepId = Annotated[str, Meta(extra_json_schema={"pattern": ids.pattern("step")})]
MessageId = Annotated[str, Meta(extra_json_schema={"pattern": ids.pattern("message")})]
UserId = Annotated[str, Meta(extra_json_schema={"pattern": ids.pattern("user")})]
TokenId = Annotated[str, Meta(extra_json_schema={"pattern": ids.pattern("token")})]
Label = Annotated[str, Meta(extra_json_schema=LABEL)]
"""An id of another system: an agent, a conversation, a template, a project."""
Name = Annotated[str, Meta(extra_json_schema={**LABEL, "maxLength": NAME_SIZE_MAX})]
"""A name that others chose: of a model, an endpoint, an error type."""
Reason = Annotated[str, Meta(extra_json_schema={**LABEL, "maxLength": NAME_SIZE_MAX})]
"""Why somebody did something, in their own words."""
Tokens = Annotated[int, Meta(extra_json_schema={"minimum": 0, "maximum": TOKENS_MAX})]
Tags = Annotated[list[Label], Meta(extra_json_schema={"maxItems": TAGS_MAX})]
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
"""ISO 8601; on the way out always UTC with microseconds and ``Z``."""
Nanoseconds = Annotated[int, Meta(extra_json_schema={"minimum": 0, "maximum": DURATION_MAX_NS})]
Timeout = Annotated[float, Meta(extra_json_schema={"exclusiveMinimum": 0, "maximum": TIMEOUT_MAX_S})]
"""Seconds."""
Url = Annotated[str, Meta(extra_json_schema={"maxLength": URL_SIZE_MAX, "pattern": URL_PATTERN})]
"""Where a callback goes; which hosts and ports may be is for ``server.callbacks.addresses`` to say."""
JobStatus = Annotated[str, Meta(extra_json_schema={"enum": list(statuses("job"))})]
RunStatus = Annotated[str, Meta(extra_json_schema={"enum": list(statuses("run"))})]
JobType = Annotated[str, Meta(extra_json_schema={"enum": list(KINDS)})]
StopReason = Annotated[str, Meta(extra_json_schema={"enum": list(STOP_REASONS)})]
