"""Parsers of single values under attack: JSON, times, ids, tokens, addresses, schedules, words, options, parameters."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import click
from yarl import URL

from ledger import callbacks, ids, jsontext, times, tokens
from ledger.errors import InvalidInput, invalid
from projections import differences
from projections.phrases import Phrase, fold
from projections.signature import error_type, mask, signature, tool_name
from server.app import ROUTER
from server.auth import check_scopes
from server.callbacks import schedule, signing
from server.callbacks.addresses import Rules, origin
from server.callbacks.addresses import read as read_url
from server.cli import options
from server.cli.stuck import Duration
from server.openapi.recorder import Recorder
from server.params import Params, parse_body
from server.routes.bodies import ChangeJob, CreateRun
from tests.fuzz.attack import Target
from tests.fuzz.mutations import ID
from tests.server.serving import MIDNIGHT_US

TIMES = (
    *("2026-11-22T03:45:26.918194Z", "2026-11-22T03:45:26+01:30", "2026-11-22", "2026-11-22 03:45", "1234"),
    *("1996-02-29T23:59Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"),
)
URLS = (
    *(
        "https://example.com/hook?a=b",
        "http://127.0.0.1:9000/",
        "https://[2001:db8::1]:8443/x",
        "http://bücher.example/",
    ),
    *(
        "https://a.b.c.d.example.com.:443/%41?x#y",
        "http://user:pw@example.com/",
        "http://0x7f.1/",
        "https://[::ffff:1.2.3.4]",
    ),
)
SAID = (
    "Error: Plan with ID P1015 not found",
    "HTTP 429, message='Too Many Requests', url='https://api.example/v1?k=1'",
    'ValueError: {"error": {"message": "no", "type": "x", "code": 5}}',
    "at 2025-07-29T22:56:48.47Z from [::1]:8080, 10.0.0.1:80 (1m30s), Wed, 29 Jul 2025 22:56:48 GMT",
    "File \"C:\\x\\y.py\", line 12, in f\n  x\nKeyError: 'a'",
    "arn:aws:s3:::b/k 1,234,567 «x» ‘y’ “z” 0x7fff5fbff8c0 50% a@b.c /usr/lib/x.so ~/x ../y",
)
QUERIES = (
    '"gift card" "not enough"',
    "either OR other -without begin*",
    'naïve re\u0301sume\u0301 -"a b"',
    "a OR OR b",
    "-x ye*",
)
SECRETS = (
    "whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=",
    "whsk_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=",
    "whsec_QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=, whsec_MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=",
)
JSONS = (
    '{"a":[1,-0.5,1e100,null,true,"\\ud83e\\udd89 \\u0000"],"n":-9223372036854775808,"d":{"e":{"r":[[]]}}}',
    '[0.1,1E5,-0,12345678901234567,"é\\n"]', "3", '"x"', " {} ",
    "[" * 64 + "9223372036854775807" + "]" * 64,
)  # fmt: skip
BODIES = (
    '{"agent_id":"agent-1","status":"completed","stop_reason":"error","metadata":{"a":1},"timeout_s":1.5}',
    '{"status":"failed","error":{"type":"E","message":"m"},"ttft_ns":1,"total_duration_ns":2,"time":"2026-11-22"}',
)


def texts(*found: str) -> Callable[[], Sequence[bytes]]:
    """Return examples that are texts."""
    encoded = [each.encode() for each in found]
    return lambda: encoded


def text_of(raw: bytes) -> str:
    """Return bytes as text; what is no UTF-8 as lone surrogates, as Python has it from command lines."""
    return raw.decode("utf-8", "surrogateescape")


def feed_json(raw: bytes) -> None:
    value = jsontext.decode(raw)
    assert value == json.loads(raw), "another reader of JSON sees another value"
    assert _depth(value) <= jsontext.DEPTH_MAX
    assert all(-(2**63) <= each < 2**63 for each in _integers(value))
    assert jsontext.decode(json.dumps(value).encode()) == value


def _depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


def _integers(value: object) -> list[int]:
    if isinstance(value, dict | list):
        return [each for inner in (value.values() if isinstance(value, dict) else value) for each in _integers(inner)]
    return [value] if isinstance(value, int) else []


def feed_body(raw: bytes) -> None:
    body = parse_body(raw, CreateRun if b"agent_id" in raw else ChangeJob)
    assert body.changed(None, metadata=body.metadata).metadata is body.metadata


def feed_time(raw: bytes) -> None:
    time_us = times.check_range(times.from_text(text_of(raw)), "time")
    assert times.from_text(times.to_text(time_us)) == time_us


def feed_id(raw: bytes) -> None:
    text = text_of(raw)
    assert ids.parse(text, *ids.KINDS) == text.lower()
    assert text.isascii()


def feed_label(raw: bytes) -> None:
    assert ids.label(text_of(raw), "label").encode()


def feed_token(raw: bytes) -> None:
    text = text_of(raw)
    if not tokens.is_well_formed(text):
        raise invalid("token", "is mistyped")
    assert (len(text), text.isascii()) == (54, True)
    assert tokens.checksum(text[3:46]) == text[47:]


def feed_point(raw: bytes) -> None:
    assert options.point(text_of(raw), "--at") is not None


def feed_scopes(raw: bytes) -> None:
    assert set(check_scopes(text_of(raw).split(","))) <= {"read", "write", "admin"}


def feed_duration(raw: bytes) -> None:
    assert Duration().convert(text_of(raw), None, None) > 0


def feed_option(raw: bytes) -> None:
    assert options.clean(text_of(raw)).isprintable()
    assert options.TEXT.convert(text_of(raw), None, None).encode() == raw


def feed_callback_url(raw: bytes) -> None:
    """What may be called has one reading, which stays the same when it is written again."""
    url = text_of(raw)
    callbacks.receiver(url)  # of any text that a log may hold
    callbacks.check_url(url)
    Rules().check_url(url)
    assert read_url(origin(url)).host == read_url(url).host
    target = read_url(url)
    assert target.address is None or Rules().verdict(str(target.address), target.port) is None


def feed_rules(raw: bytes) -> None:
    rules = Rules.parse(text_of(raw).split("\n"))
    for url in URLS:
        try:
            rules.check_url(url)
        except InvalidInput as error:
            assert str(error)


def feed_schedule(raw: bytes) -> None:
    found = schedule.Schedule.parse(text_of(raw))
    waits = [found.wait_s(attempt, random.Random(1)) for attempt in range(1, found.attempts_max + 1)]
    assert waits[-1] is None
    assert all(wait is not None and 0 < wait <= schedule.WAIT_MAX_S * schedule.JITTER_MAX for wait in waits[:-1])


def feed_retry_after(raw: bytes) -> None:
    wait_s = schedule.retry_after_s(text_of(raw), MIDNIGHT_US)
    assert wait_s is None or 0 <= wait_s <= schedule.RETRY_AFTER_MAX_S


def feed_secret(raw: bytes) -> None:
    text = text_of(raw)
    try:
        signer = signing.Signer.parse(text, "the variable")
    except InvalidInput as error:
        assert not any(part[6:22] in str(error) for part in text.split(",") if len(part) > 22), "a secret is shown"
        raise
    assert signer.headers("msg_1", MIDNIGHT_US, b"{}")
    assert signing.Signer.parse(",".join(part.strip() for part in text.split(",")), "x").public() == signer.public()


@cache
def _index() -> sqlite3.Connection:
    index = sqlite3.connect(":memory:")
    index.execute("CREATE VIRTUAL TABLE words USING fts5(message, error)")
    index.execute("INSERT INTO words VALUES ('a gift card is not enough, naïve begin', 'other b')")
    return index


def feed_query(raw: bytes) -> None:
    """Whatever is asked for is no syntax of the index, and is looked for in bounded time."""
    text = text_of(raw)
    phrase = Phrase(text)
    _index().execute("SELECT count(*) FROM words WHERE words MATCH ?", (phrase.match(("message", "error")),)).fetchone()
    assert len(fold(text)) == len(text)
    assert phrase.rarest
    for said in (*SAID, text * 20):
        count, parts = phrase.snippet(said[:8192])
        assert count == 0 or any(part.hit for part in parts)


def feed_failure(raw: bytes) -> None:
    """Any text that a failure may say has one signature, in bounded time and size."""
    text = raw.decode("utf-8", "replace")
    masked = mask(text, tool_name(text[:40]))
    assert len(masked) <= 300
    assert mask(text, tool_name(text[:40])) == masked
    assert signature("run", "failed", "error", error_type(text), tool_name(text), masked).startswith("f1-")


def feed_value(raw: bytes) -> None:
    value = differences.parsed(text_of(raw)) if not _has_surrogate(raw) else raw.decode("utf-8", "replace")
    assert differences.canonical(value) == differences.canonical(value)
    differences.excerpts(value, [value, 1])


def _has_surrogate(raw: bytes) -> bool:
    return raw != raw.decode("utf-8", "replace").encode()


def parameters() -> list[Target]:
    """Return a target for the query parameters of each route."""
    found = {}
    for route in ROUTER.routes:
        if route.query is not None and not route.alias_of:
            name = f"query {route.method} {route.pattern}"
            found[name] = Target(name, _reads(route.query), asks(route.query), weight=4)
    return list(found.values())


def _reads(query: Callable[[Params], Any]) -> Callable[[bytes], None]:
    def feed(raw: bytes) -> None:
        params = Params(URL.build(path="/", query_string=raw.decode("ascii", "ignore"), encoded=True).query)
        query(params)
        params.done()

    return feed


def asks(query: Callable[[Params], Any]) -> Callable[[], Sequence[bytes]]:
    """Return query strings of a route: with all of its parameters, and with each of them alone."""
    recorder = Recorder()
    query(recorder)
    values = [_values(schema) for schema in recorder.schemas.values()]
    pairs = list(zip(recorder.schemas, values, strict=True))
    examples = ["&".join(f"{name}={each[number % len(each)]}" for name, each in pairs) for number in range(2)]
    examples += [f"{name}={value}" for name, each in pairs for value in each]
    return texts(*examples)


def _values(schema: dict[str, Any]) -> list[str]:
    """Return values of a parameter, most of them good."""
    schema = schema.get("anyOf", [schema])[0]
    if schema["type"] == "array":
        return [*_values(schema["items"]), ",".join(_values(schema["items"]))]
    if "enum" in schema:
        return [str(value) for value in schema["enum"]]
    if schema["type"] in ("integer", "number"):
        return ["1", str(schema.get("minimum", 1)), str(schema.get("maximum", 2)), "9" * 5000]
    if schema["type"] == "boolean":
        return ["true", "0"]
    if "-" in schema.get("pattern", "") and "[0-9a-f]" in schema["pattern"]:
        kinds = [kind for kind in ids.KINDS if kind in schema["pattern"]]
        return [f"{kind}-{ID}" for kind in kinds]
    return ["2026-11-22T00:00:00Z"] if schema.get("format") == "date-time" else ["agent-1", "a b%20c"]


TARGETS = [
    Target("json", feed_json, texts(*JSONS), covers=("ledger.jsontext.decode", "ledger.formats.decode")),
    Target("body", feed_body, texts(*BODIES), covers=("server.params.parse_body", "server.params.convert")),
    Target("time", feed_time, texts(*TIMES), covers=("ledger.times.from_text",)),
    Target("id", feed_id, texts(*(f"{kind}-{ID}" for kind in ids.KINDS), f"run-{ID[:24]}{ID[24:].upper()}"), covers=("ledger.ids.parse",)),
    Target("label", feed_label, texts("agent-1", "ägent „3“", "x" * 256)),
    Target("token", feed_token, texts(tokens.mint()[:0] + "jl_" + "a" * 43 + "_" + tokens.checksum("a" * 43))),
    Target("point", feed_point, texts(*TIMES)),
    Target("scopes", feed_scopes, texts("read", "read,write", "admin,read,write")),
    Target("duration", feed_duration, texts("90s", "10m", "1.5d", "36500d"), (click.ClickException,),
           ("server.cli.stuck.convert",)),
    Target("option", feed_option, texts("reason ä", "x\u202e"), (click.ClickException,), ("server.cli.options.convert",)),
    Target("callback url", feed_callback_url, texts(*URLS),
           covers=("ledger.callbacks.check_url", "server.callbacks.addresses.check_url", "server.callbacks.addresses.read")),
    Target("callback rules", feed_rules, texts("10.0.0.0/8", "127.0.0.1:9000", "[::1]:80\n::/0", "192.168.0.0/16:443"),
           covers=("server.callbacks.addresses.parse",)),
    Target("schedule", feed_schedule, texts("5,300,1800", "none", "", "0.5", ",".join(["1"] * 50)),
           covers=("server.callbacks.schedule.parse",)),
    Target("retry-after", feed_retry_after, texts("120", "Wed, 21 Oct 2026 07:28:00 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
           "Sun Nov  6 08:49:37 1994"), covers=("server.callbacks.schedule.retry_after_s",)),
    Target("secret", feed_secret, texts(*SECRETS), covers=("server.callbacks.signing.parse", "server.callbacks.secret.load")),
    Target("search", feed_query, texts(*QUERIES), covers=("projections.phrases.fold",)),
    Target("failure text", feed_failure, texts(*SAID)),
    Target("compared value", feed_value, texts(*JSONS), covers=("projections.differences.parsed",)),
    *parameters(),
]  # fmt: skip
