"""What an event says in words, for full-text search: messages, errors, names of tools, metadata."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any, Final, Literal

import msgspec

from ledger import events as facts
from ledger import upcast
from ledger.events import ErrorInfo, Recorded

What = Literal["message", "error", "tool", "metadata"]
WHATS: Final[tuple[What, ...]] = ("message", "error", "tool", "metadata")
"""The kinds of texts that an event can have, in the order of a document's fields."""
ORIGINS: Final = frozenset({"source", "file"})
"""Names in metadata of where an import took a record from: the same in hundreds of thousands, so no word to find."""
_METADATA, _ERROR = b'"metadata":{"', b'"error":{"'
"""How the data of an event begins to say something; few events do, and those that do not are not decoded."""
_NO_TEXT: Final = frozenset({"type", "data", "signature", "media_type", "file_id", "url"})
"""Fields of parts of content that no person reads."""


class Document(msgspec.Struct, gc=False):
    """The texts of one event, each None where it says nothing of that kind, and what it is about."""

    message: str | None = None
    error: str | None = None
    tool: str | None = None
    metadata: str | None = None
    message_id: str | None = None
    step_id: str | None = None
    message_type: str | None = None


class _Said(msgspec.Struct):
    """What of a message is looked at; messages of whatever release of the union can be read with it."""

    id: str
    message_type: str
    step_id: str | None = None
    content: Any = None
    reasoning: Any = None
    hidden_reasoning: Any = None
    summary: Any = None
    event_data: Any = None
    tool_call: Any = None
    tool_calls: Any = None
    tool_return: Any = None
    tool_returns: Any = None
    stdout: Any = None
    stderr: Any = None
    status: Any = None
    is_err: Any = None
    approvals: Any = None
    reason: Any = None


_said_in = msgspec.json.Decoder(_Said).decode
_decode = msgspec.json.Decoder().decode


def document(event: Recorded) -> Document | None:
    """Return what an event says, None where that is nothing."""
    data = event.data
    if data is None or data == b"{}":  # most changes of a status say no more
        return None
    read = _READERS.get(event.type)
    return None if read is None else read(event)


def _of_change(event: Recorded) -> Document | None:
    data = event.data or b""
    if _METADATA not in data and _ERROR not in data:
        return None
    fact = upcast.fact(event)
    if isinstance(fact, facts.Created):
        told = _metadata(fact.metadata)
        return None if told is None else Document(metadata=told)
    if not isinstance(fact, facts.Changed):
        return None
    told, error = _metadata(fact.metadata), _error(fact.error)
    return None if told is None and error is None else Document(metadata=told, error=error)


def _metadata(metadata: dict[str, Any] | None) -> str | None:
    """Return the strings of metadata, each after its name: numbers are not looked for, as schedulers have only them."""
    if not metadata:
        return None
    for each in metadata.values():
        if each.__class__ is dict or each.__class__ is list:
            return _lines(metadata, without=ORIGINS)
    flat = [f"{name}: {each}" for name, each in metadata.items() if each.__class__ is str and name not in ORIGINS]
    return _joined(flat) if flat else None


def _error(error: ErrorInfo | None) -> str | None:
    return None if error is None else _joined([error.type, error.message, error.traceback])


def _of_step(event: Recorded) -> Document | None:
    if b'"error_' not in (event.data or b""):
        return None
    fact = upcast.fact(event)
    if not isinstance(fact, facts.Step):
        return None
    told = None if fact.error_data is None else _lines(fact.error_data)
    error = _joined([fact.error_type, told])
    return None if error is None else Document(error=error, step_id=fact.id)


def _of_message(event: Recorded) -> Document | None:
    fact = upcast.fact(event)
    if not isinstance(fact, facts.Message):
        return None
    said = _said_in(bytes(fact.message))
    texts = [
        *_texts(said.content), *_texts(said.reasoning), *_texts(said.hidden_reasoning), *_texts(said.summary),
        *_texts(said.reason),
    ]  # fmt: skip
    if isinstance(said.event_data, dict):
        texts.append(_lines(said.event_data) or "")
    tools: dict[str, None] = {}
    for call in _dicts(said.tool_call, said.tool_calls):
        tools.update(dict.fromkeys(_texts(call.get("name"))))
        texts += [readable(text) for text in _texts(call.get("arguments"))]
    failed: list[str] = []
    for returned in _returns(said):
        found = [readable(text) for name in _RETURNED for text in _texts(returned.get(name))]
        (failed if returned.get("status") == "error" else texts).extend(found)
    said_texts = list(dict.fromkeys(texts))  # the first of several calls or returns is told twice
    if said.is_err is True:
        failed, said_texts = said_texts + failed, []
    message, error, tool = _joined(said_texts), _joined(list(dict.fromkeys(failed))), _joined(list(tools))
    if message is None and error is None and tool is None:
        return None
    about = {"message_id": said.id, "step_id": said.step_id, "message_type": said.message_type}
    return Document(message=message, error=error, tool=tool, **about)


_RETURNED: Final = ("tool_return", "stdout", "stderr", "reason")


def _returns(said: _Said) -> list[dict[str, Any]]:
    first = {"status": said.status, "tool_return": said.tool_return, "stdout": said.stdout, "stderr": said.stderr}
    return [first, *_dicts(said.tool_returns, said.approvals)]


def _dicts(*values: Any) -> Iterator[dict[str, Any]]:
    """Yield the objects among values that are objects or arrays of them."""
    for value in values:
        for each in value if isinstance(value, list) else (value,):
            if isinstance(each, dict):
                yield each


def _texts(value: Any) -> Iterator[str]:
    """Yield the text of a string, or of the parts of content in an array."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            if isinstance(each, str):
                yield each
            elif isinstance(each, dict):
                yield from (text for name, text in each.items() if isinstance(text, str) and name not in _NO_TEXT)


def readable(text: str) -> str:
    r"""Return text with its words apart, where it is JSON whose escapes such as ``\n`` would stick to them."""
    if "\\" not in text or text[:1] not in ("{", "["):
        return text
    try:
        value = _decode(text)
        return _lines(value, numbers=True) or text
    except (msgspec.MsgspecError, RecursionError):
        return text


def _lines(value: Any, without: Collection[str] = (), *, numbers: bool = False) -> str | None:
    """Return the strings in an object or array, each on a line behind its name; raises ``RecursionError``."""
    found: list[str] = []
    _gather(value, "", found, without, numbers)
    return _joined(found) if found else None


def _gather(value: Any, name: str, found: list[str], without: Collection[str], numbers: bool) -> None:
    entries = value.items() if isinstance(value, dict) else [(name, each) for each in value]
    for inner, each in entries:
        if isinstance(each, str):
            if inner not in without:
                found.append(f"{inner}: {each}" if inner else each)
        elif isinstance(each, (dict, list)):
            _gather(each, inner, found, (), numbers)
        elif numbers and each is not None:
            found.append(f"{inner}: {each}")


def _joined(texts: list[str | None] | list[str]) -> str | None:
    """Return texts as lines, without NUL, at which SQLite's functions of text would stop."""
    return "\n".join(text for text in texts if text).replace("\0", "\ufffd") or None


_OF_SHAPE: Final[dict[type[facts.Fact], Callable[[Recorded], Document | None]]] = {
    facts.Created: _of_change,
    facts.Changed: _of_change,
    facts.RunUpdated: _of_change,
    facts.Step: _of_step,
    facts.Message: _of_message,
}
_READERS: Final = {name: _OF_SHAPE[info.shape] for name, info in facts.TYPES.items() if info.shape in _OF_SHAPE}
SPEAKING: Final = frozenset(_READERS)
"""The types of events that may say something in words."""
