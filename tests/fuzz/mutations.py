"""Hostile input from good examples: bytes, words and JSON trees are changed at random, the same for the same seed."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from typing import Any

SIZE_MAX = 1 << 20
"""Bytes of an input; what is made longer by repeating is cut off."""
ID = "00abcdef-0000-4000-8000-0000000fedc1"
WORDS = [
    *("", " ", "\0", "\x7f", "\x85", "\u2028", "\u202e", "\ufeff", "e\u0301" * 3, "🦉", "ß", "İ", "²", "١٢", "é\0"),
    *("-1", "-0", "+1", "0", "00", "1", "1.5", "1e3", "1e400", "-1e400", "1e-400", "NaN", "inf", "-inf", "0x10", "1_0"),
    *(str(2**31), str(2**53), str(2**63 - 1), str(2**63), str(-(2**63)), str(-(2**63) - 1), str(2**64), "9" * 25),
    *("9" * 400, "9" * 5000, "null", "true", "false", "None", "{}", "[]", "[[]]", '""', "''", '"', "'", "\\", "/"),
    *("..", "../../etc/passwd", "%", "%00", "%ff", "%2F", "%u0041", "&", "=", "?", "#", ";", ",", ",,", ":", "::"),
    *("\r\n", "\n", "\n\n", "\r", "\t", "\v", "*", "**", "(", ")", "OR", "AND", "NOT", "NEAR(", "-", "--", "—", "— "),
    *("2026-11-22T00:00:00Z", "2026-11-22", "2026-02-30T00:00:00Z", "0001-01-01T00:00:00+23:59", "0000-00-00"),
    *("9999-12-31T23:59:59.999999-23:59", "2026-11-22T24:00:00Z", "2026-11-22T00:00:60Z", "1970-01-01T00:00:00Z"),
    *("2026-11-22 00:00", "2026-11-22T00:00:00.123456789z", "2026-11-22T00:00:00,5+0130", "20261122T000000Z"),
    *(f"{kind}-{ID}" for kind in ("job", "run", "step", "message", "user", "token", "JOB")),
    *(f"{kind}-{ID.upper()}" for kind in ("job", "run", "step", "token")),
    *("http://127.0.0.1", "https://[::1]:80/", "http://a@b", "https://a:99999", "http://[", "http://\u2100.com"),
    *('W/"1"', '"1"', '"1","2"', '"', "Bearer ", "jl_", "whsec_", "gzip", "chunked", "100-continue", "a" * 300),
    *("a" * 70_000, "é" * 5000, "\u0301" * 2000, " " * 5000, "." * 3000, "(" * 2000, "1." * 2000, ":" * 3000),
]
"""Words that parsers trip over: borders of ranges, names of nothing, what other languages mean by them."""
LEAVES = [
    *(b"null", b"true", b"false", b"0", b"-0", b"-1", b"1", b"0.5", b"-0.0", b"1e400", b"-1e400", b"1e-400", b"1E5"),
    *(b"NaN", b"Infinity", b"-Infinity", b"9223372036854775807", b"9223372036854775808", b"-9223372036854775809"),
    *(b"18446744073709551615", b"18446744073709551616", b"9" * 30, b"9" * 400, b"9" * 5000, b"1." + b"9" * 400),
    *(b'""', b'"\\u0000"', b'"\\ud800"', b'"\\udfff\\ud800"', b'"\\uD83E\\uDD89"', b'"\xff"', b'"\xed\xa0\x80"'),
    *('"\u202e"'.encode(), b'"a\nb"', b'"\x00"', b'"' + b"a" * 70_000 + b'"', b'"\\', b'"', b"", b"nul", b"{", b"]"),
    *(b"[]", b"{}", b"[[]]", b"[null]", b'{"":null}', b'{"a":1,"a":2}', b'["a"]', b'{"a":{"b":[{"c":[]}]}}'),
    *(
        b"[" * 63 + b"]" * 63,
        b"[" * 65 + b"]" * 65,
        b'{"a":' * 70 + b"1" + b"}" * 70,
        b"[" * 5000,
        b"[" * 2000 + b"]" * 2000,
    ),
    *(json.dumps(word).encode() for word in WORDS if len(word) < 400),
]
"""JSON, or nearly, to stand where any value stood."""


class Duplicated(list[tuple[str, Any]]):
    """An object as pairs, so that a name may stand in it twice."""


def mutated(chance: random.Random, examples: Sequence[bytes]) -> bytes:
    """Return an example that was changed once or a few times, as a tree where it is JSON, else as words or bytes."""
    raw = chance.choice(examples)
    for _ in range(chance.choice([0, 1, 1, 1, 2, 3, 8])):
        change = chance.choice([_in_tree, _in_tree, _in_line, _word, _word, _byte, _part])
        raw = change(chance, raw, examples)
    return raw[:SIZE_MAX]


def _byte(chance: random.Random, raw: bytes, examples: Sequence[bytes]) -> bytes:
    at = chance.randrange(len(raw) + 1)
    match chance.randrange(4):
        case 0:
            return raw[:at] + bytes([chance.randrange(256)]) + raw[at + 1 :]
        case 1:
            return raw[:at] + bytes([chance.randrange(256)]) + raw[at:]
        case 2:
            return raw[:at] + raw[at + 1 :]
        case _:
            flipped = bytes([raw[at] ^ 1 << chance.randrange(8)]) if at < len(raw) else b""
            return raw[:at] + flipped + raw[at + 1 :]


def _part(chance: random.Random, raw: bytes, examples: Sequence[bytes]) -> bytes:
    """Cut off, drop, repeat or borrow a part."""
    one, other = sorted(chance.randrange(len(raw) + 1) for _ in range(2))
    match chance.randrange(5):
        case 0:
            return raw[:one]
        case 1:
            return raw[:one] + raw[other:]
        case 2:
            return raw[:other] + raw[one:other] + raw[other:]
        case 3:
            return raw[:other] + raw[one:other][:200] * chance.choice([2, 20, 500]) + raw[other:]
        case _:
            lender = chance.choice(examples)
            return raw[:one] + lender[chance.randrange(len(lender) + 1) :]


def _word(chance: random.Random, raw: bytes, examples: Sequence[bytes]) -> bytes:
    """Put a hostile word in the place of a word of the input, or beside it."""
    found = list(re.finditer(rb"[A-Za-z_]+|-?[0-9.]+|[^A-Za-z0-9_\s]|\s+", raw[:20_000]))
    word = chance.choice(WORDS).encode("utf-8", "surrogatepass")
    if not found:
        return word
    place = chance.choice(found)
    return raw[: place.start()] + word + raw[place.end() if chance.random() < 0.7 else place.start() :]


def _in_line(chance: random.Random, raw: bytes, examples: Sequence[bytes]) -> bytes:
    """Swap, repeat or drop lines, or change the tree of one of them."""
    lines = raw.splitlines(keepends=True)
    if len(lines) < 2:
        return _in_tree(chance, raw, examples)
    at = chance.randrange(len(lines))
    match chance.randrange(4):
        case 0:
            other = chance.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        case 1:
            lines.insert(chance.randrange(len(lines)), lines[at])
        case 2:
            del lines[at]
        case _:
            lines[at] = _in_tree(chance, lines[at].rstrip(b"\r\n"), examples) + b"\n"
    return b"".join(lines)


def _in_tree(chance: random.Random, raw: bytes, examples: Sequence[bytes]) -> bytes:
    """Change one place of a JSON value: its type, its value, its name, or how often it stands there."""
    try:
        tree = json.loads(raw, object_pairs_hook=Duplicated)
        places = list(_places(tree))
        if not places:
            return chance.choice(LEAVES)
        holder, at = chance.choice(places)
        _change(chance, holder, at, [holder[at] for holder, at in places])
        return _dumped(tree)
    except (ValueError, RecursionError):  # no JSON, or what was nested deep before
        return _word(chance, raw, examples)


def _change(chance: random.Random, holder: list[Any], at: int, others: list[Any]) -> None:
    name, value = holder[at] if isinstance(holder, Duplicated) else ("", holder[at])
    match chance.randrange(7):
        case 0:
            del holder[at]
            return
        case 1:
            holder.insert(at, holder[at])
            return
        case 2:
            name = chance.choice([*WORDS[:60], name + "s", name.upper(), "id", "type"])
        case 3:
            other = chance.choice(others)
            value = _dumped(other[1] if isinstance(other, tuple) else other)  # no value stands within itself
        case 4:
            value = [value] if chance.random() < 0.5 else Duplicated([("a", value)])
        case _:
            value = chance.choice(LEAVES)
    holder[at] = (name, value) if isinstance(holder, Duplicated) else value


def _places(value: Any) -> Any:
    if isinstance(value, list):
        for at, inner in enumerate(value):
            yield value, at
            yield from _places(inner[1] if isinstance(value, Duplicated) else inner)


def _dumped(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, Duplicated):
        return b"{" + b",".join(_text(name) + b":" + _dumped(inner) for name, inner in value) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(_dumped, value)) + b"]"
    return _text(value) if isinstance(value, str) else json.dumps(value).encode()


def _text(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False).encode("utf-8", "surrogatepass")
