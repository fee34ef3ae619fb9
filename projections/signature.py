"""Signatures of failures: what failed and how, with all that differs from one time to the next masked.

Failures of one cause share a signature, over runs, days and releases: it begins with the version of the rules that made
it, which is raised with any change of them, so that one text never stands for two causes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from typing import Final

import msgspec

from projections.spans import short

VERSION: Final = 1
"""Raise it with any change of what is masked or what a signature is made of, and the version of the projection too."""
PATTERN: Final = r"^f[1-9][0-9]{0,5}-[0-9a-f]{16}$"
"""What a signature looks like."""
READ_MAX: Final = 2_000
"""Characters of a message that are looked at, half at its beginning and half at its end: some have megabytes."""
MESSAGE_MAX: Final = 300
"""Characters of a masked message."""
HEAD, TAIL = 64, 200
"""Characters of both ends of a longer one: its middle quotes what was wrong, and many tell the cause at the end."""
NAME_MAX: Final = 64
"""Characters of the name of a tool or of a type of error."""
_KEPT_NAMES: Final = 4_096

_QUOTED = re.compile(r"(?<!\w)(?:'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|`[^`]*`|‘[^’]*’|“[^”]*”|«[^»]*»)(?!\w)")
_URL = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]{0,20}://[^\s'\"<>]+")
_WEEKDAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]{0,6},? "
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}\.?"
_TIME = re.compile(
    r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?)?(?:Z|\s?[+-]\d\d:?\d\d)?\b"
    rf"|\b(?:{_WEEKDAY})?(?:\d{{1,2}}[ -]{_MONTH}[ -]\d{{2,4}}|{_MONTH} \d{{1,2}}(?:, \d{{4}})?)"
    r"(?: \d\d:\d\d(?::\d\d(?:\.\d+)?)?)?(?: (?:GMT|UTC|[+-]\d{4}))?(?: \d{4})?\b"
    r"|(?<![\w.:])\d{1,2}:\d\d(?::\d\d(?:[.,]\d+)?(?:\s?[AaPp][Mm])?|\s?[AaPp][Mm])\b"
)
"""ISO 8601, dates of HTTP and of C, and times of the day; ``5:10`` alone may as well be a line and a column."""
_HEX = r"[0-9a-fA-F]{1,4}"
_HOST = re.compile(
    r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}"
    rf"|\[?(?:(?:{_HEX}:){{7}}{_HEX}|(?:{_HEX}(?::{_HEX}){{0,6}})?::(?:{_HEX}(?::{_HEX}){{0,6}})?)(?:%\w+)?\]?)"
    r"(?::\d{1,5})?(?!\w|:\w|\.\d)"
)
"""An address of the internet, of either version, with its port: one name leads to several."""
_ARN = re.compile(r"\barn:aws[\w-]*:[\w:/.*+=@-]+")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
_WORD = re.compile(r"[^\s()\[\]{}<>,;:=|\"]+")
_NUMBER = re.compile(
    r"[+-]?[$€£]?\d[\d.,_]*(?:[eE][+-]?\d+)?(?:%|[a-zA-Zµ]{1,3})?"
    r"|(?:\d+(?:\.\d+)?(?:[dhms]|[mnuµ]s)){2,9}"  # as Go has it: 1m30s
)
_CODE_BEFORE = {
    "http", "http/1.1", "http/2", "status", "status_code", "statuscode", "code", "errno", "exitcode", "returncode",
    "signal", "sqlstate",
}  # fmt: skip
"""Words before numbers that tell a cause: the 429 of ``status 429`` stays."""
_BODY = re.compile(r"['\"]error['\"]\s?:")
"""What the bodies of providers' errors have in common; what else is quoted there may be what a user said."""
_TOLD_BEFORE = re.compile(r"['\"](?:error|message|detail|reason|type|code|status)['\"]\s?:\s?$")
"""Names in such a body before quoted values that tell a cause."""
_HTTP_BEFORE = re.compile(r"\b[45]\d\d, message=$")
_HTTP_STATUS = re.compile(r"[45]\d\d [A-Z][A-Za-z' -]{1,40}")
"""As HTTP libraries quote it: ``Client error '404 Not Found' for url '…'``."""
_DRIVE = re.compile(r"\b[A-Za-z]:<path>")
_REPEATED = re.compile(r"(<[a-z]+>)(?:[\s,;|/]*\1)+")
_TYPE = re.compile(r"\W{0,3}((?:[a-z_]\w{0,40}\.){0,5}[A-Z]\w{0,60}(?:Error|Exception|Failure|Timeout|Warning|Exit))\b")
_NAME = re.compile(r"\W{0,8}([\w.:/-]+)")


def mask(message: str, tool: str | None = None) -> str:
    """Return a message without its ids, numbers, paths, addresses, times and quoted values; at most 300 characters.

    ``tool``: the name of the tool that failed, which models make up too; where the message repeats it, ``<tool>``.
    """
    if tool and len(tool) > 2:
        message = _ends(message, READ_MAX * 10, READ_MAX * 5, READ_MAX * 5).replace(tool, "<tool>")
    text = " ".join(read_of(message).split())
    text = _URL.sub("<url>", text)
    text = _unquoted(text)
    text = _HOST.sub("<address>", _TIME.sub("<time>", _ARN.sub("<id>", text)))
    text = _THOUSANDS.sub("", text)
    text = _WORD.sub(_words(), text)
    return _ends(_REPEATED.sub(r"\1 …", _DRIVE.sub("<path>", text)), MESSAGE_MAX, HEAD, TAIL)


def read_of(message: str) -> str:
    """Return what ``mask`` reads of a message that no tool is named in: all of it, or both its ends."""
    return _ends(message, READ_MAX, READ_MAX // 2, READ_MAX // 2)


def _ends(text: str, size_max: int, head: int, tail: int) -> str:
    """Return a text, or so many characters of both its ends where it is longer."""
    return text if len(text) <= size_max else f"{text[:head]} … {text[-tail:]}"


def _unquoted(text: str) -> str:
    """Return a text without its quoted values, but for those that say what went wrong."""
    has_body = _BODY.search(text) is not None

    def masked(found: re.Match[str]) -> str:
        before = text[max(0, found.start() - 16) : found.start()]
        told = found[0][1:-1].replace('\\"', '"').replace("\\'", "'")
        if (has_body and _TOLD_BEFORE.search(before)) or _HTTP_BEFORE.search(before) or _HTTP_STATUS.fullmatch(told):
            return _QUOTED.sub("<text>", told)
        return "<text>"

    return _QUOTED.sub(masked, text)


def _words() -> Callable[[re.Match[str]], str]:
    """Return what masks one word after another, each in the light of the one before."""
    before = ""

    def masked(found: re.Match[str]) -> str:
        nonlocal before
        word = found[0]
        core = word.strip(".!?'`*")
        known, before = before, core.lower()
        if not core or (known in _CODE_BEFORE and len(core) <= 5 and core.removeprefix("-").isdigit()):
            return word
        return word.replace(core, _masked(core), 1)

    return masked


def _masked(word: str) -> str:
    if "@" in word[1:-1]:
        return "<address>"
    if "/" in word or "\\" in word:
        return _path(word)
    if not any(map(str.isdigit, word)):
        return word
    return "<number>" if _NUMBER.fullmatch(word) else "<id>"


def _path(word: str) -> str:
    """Return what a word with slashes is: a path where it begins like one, has a file's ending or many parts."""
    parts = [part for part in re.split(r"[/\\]", word) if part]
    is_path = word[0] in "/\\~." or len(parts) > 2 or "." in (parts or [""])[-1]
    if is_path and parts:
        return "<path>"
    return "/".join(_masked(part) for part in parts) if parts else word


def error_type(message: str) -> str | None:
    """Return the type of error that a message or its last line begins with, as in ``KeyError: 'a'``."""
    last = message[-READ_MAX:].rstrip().rpartition("\n")[2]
    found = _TYPE.match(message[:READ_MAX]) or _TYPE.match(last)
    return None if found is None else short(found[1], NAME_MAX)


@lru_cache(_KEPT_NAMES)
def tool_name(name: str | None) -> str:
    """Return the name of a tool as far as it is one: models add half a conversation to it."""
    found = _NAME.match((name or "")[: NAME_MAX * 2])
    return short(found[1], NAME_MAX) if found else "(unnamed)"


@lru_cache(_KEPT_NAMES)
def signature(
    kind: str, status: str, stop_reason: str | None, error: str | None, tool: str | None, message: str | None
) -> str:
    """Return the signature of a failure: the version, and the first 16 hex digits of the SHA-256 of what it is made of.

    ``kind``: what failed. ``error``: the type of the error. ``message``: masked.
    """
    told = msgspec.json.encode((kind, status, stop_reason, error, tool, message))
    return f"f{VERSION}-{sha256(told).hexdigest()[:16]}"
