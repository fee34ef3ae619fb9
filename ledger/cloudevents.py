"""Recorded events as CloudEvents 1.0 JSON objects, and back (contract 2, On the wire and in files)."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ledger import ids, jsontext, limits, times
from ledger.errors import BadRequest, invalid
from ledger.events import TYPES, Draft, Fact, Recorded
from ledger.scalars import Time
from ledger.upcast import UPCASTS

BATCH_MEDIA_TYPE = "application/cloudevents-batch+json"


Data = Annotated[msgspec.Raw, Meta(extra_json_schema={"type": "object"})]


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The JSON form of an event. ``position`` and what follows are extension attributes of ours."""

    specversion: Annotated[str, Meta(extra_json_schema={"const": "1.0"})]
    id: str | None = None
    source: str | None = None
    type: Annotated[str, Meta(extra_json_schema={"enum": sorted(TYPES), "examples": ["job.created"]})]
    subject: Annotated[str, Meta(extra_json_schema={"pattern": ids.pattern("job", "run", "token")})]
    time: Time | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    data: Data | msgspec.UnsetType = msgspec.UNSET
    position: int | None = None
    streamversion: int | None = None
    schemaversion: int | None = None
    recordedtime: Time | None = None
    actor: str | None = None
    idempotencykey: str | None = None
    correlationid: str | None = None
    salt: str | None = None
    datadigest: str | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(CloudEvent).decode


def encode(event: Recorded, source: str) -> bytes:
    """Return the event as one line of JSON (no line end). ``data`` stands in it byte for byte as stored.

    An erased event has no ``data`` and no ``salt``, but ``datadigest``: SHA-256(salt + data), hex.
    """
    return _encode(
        CloudEvent(
            specversion="1.0",
            id=str(event.position),
            source=source,
            type=event.type,
            subject=event.stream,
            time=times.to_text(event.time),
            datacontenttype="application/json",
            data=msgspec.UNSET if event.data is None else msgspec.Raw(event.data),
            position=event.position,
            streamversion=event.version,
            schemaversion=event.schema,
            recordedtime=times.to_text(event.recorded),
            actor=event.actor,
            idempotencykey=event.key,
            correlationid=event.correlation,
            salt=event.salt.hex() if event.salt is not None else None,
            datadigest=event.digest,
        )
    )


def decode(line: bytes) -> CloudEvent:
    """Parse one CloudEvent. Raises ``BadRequest`` when it is no JSON, ``InvalidInput`` when it is no event of ours."""
    jsontext.check_bounds(line, "event", jsontext.DEPTH_MAX + 1)  # the data inside it may be as deep as a request
    try:
        event = _decode(line)
    except msgspec.ValidationError as error:
        raise invalid(*_fault(str(error))) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(reason=f"The event is not JSON: {error}.") from error
    if event.specversion != "1.0":
        raise invalid("specversion", f"'{event.specversion[:20]}' is not supported", "1.0")
    if event.type not in TYPES:
        raise invalid("type", f"'{event.type[:80]}' is not an event type of this ledger", sorted(TYPES))
    return event


def _fault(message: str) -> tuple[str, str]:
    what, _, where = message.partition(" - at `$")
    return (where.rstrip("`").lstrip(".") or "event"), what


def fact_of(event: CloudEvent) -> tuple[Fact, bytes]:
    """Return the event's data in today's shape, and the compact bytes that are stored for it."""
    info = TYPES[event.type]
    if isinstance(event.data, msgspec.UnsetType):
        raise invalid("data", "is missing", "a JSON object")
    raw = bytes(event.data)
    jsontext.decode(raw, "data")
    compact = msgspec.json.format(raw, indent=-1)
    schema = info.schema if event.schemaversion is None else event.schemaversion
    try:
        if schema == info.schema:
            return info.decode(compact), compact
        return _lift(event.type, schema, compact), compact
    except msgspec.ValidationError as error:
        where, what = _fault(str(error))
        raise invalid("data" if where == "event" else f"data.{where}", what) from error


def _lift(type: str, schema: int, compact: bytes) -> Fact:
    info = TYPES[type]
    if not 1 <= schema < info.schema:
        raise invalid("schemaversion", f"{schema} is newer than this program", list(range(1, info.schema + 1)))
    data: dict[str, Any] = msgspec.json.decode(compact)
    for step in range(schema, info.schema):
        data = UPCASTS[type, step](data)
    return msgspec.convert(data, info.shape)


def to_draft(event: CloudEvent, *, actor: str, now_us: int) -> Draft:
    """Return the draft that appends what the CloudEvent says; ``actor`` and ``now_us`` where it names none."""
    fact, data = fact_of(event)
    limits.check(fact, event.subject)
    when = now_us if event.time is None else times.from_text(event.time)
    return Draft(
        event.subject,
        event.type,
        times.check_range(when, "time"),
        event.actor or actor,
        fact,
        data,
        event.idempotencykey,
        event.correlationid,
        TYPES[event.type].schema if event.schemaversion is None else event.schemaversion,
    )


def to_recorded(event: CloudEvent) -> Recorded:
    """Return the recorded event that an exported line stands for, as it stood in the ledger it came from.

    Raises ``InvalidInput`` when one of the attributes that only a ledger gives is missing or malformed.
    """
    missing = [
        name
        for name in ("position", "streamversion", "schemaversion", "recordedtime", "actor", "time")
        if getattr(event, name) is None
    ]
    if missing:
        raise invalid(missing[0], "is missing in an exported event")
    data = None if isinstance(event.data, msgspec.UnsetType) else msgspec.json.format(bytes(event.data), indent=-1)
    try:
        salt = bytes.fromhex(event.salt) if event.salt is not None else None
    except ValueError as error:
        raise invalid("salt", "is not hexadecimal") from error
    return Recorded(
        event.position or 0,
        event.subject,
        event.streamversion or 0,
        event.type,
        event.schemaversion or 0,
        times.check_range(times.from_text(event.time or ""), "time"),
        times.check_range(times.from_text(event.recordedtime or "", "recordedtime"), "recordedtime"),
        event.actor or "",
        event.idempotencykey,
        event.correlationid,
        data,
        salt,
        event.datadigest,
    )
