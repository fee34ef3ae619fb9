"""What must be true when all is over: of the file, its proofs, its views, its callbacks, and of what was erased."""

from __future__ import annotations

import base64
import hashlib
from collections import defaultdict
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import msgspec

from ledger.ledger import Ledger
from ledger.soundness import verify_file
from ledger.times import to_text
from projections.compare import _compare
from projections.engine import Engine
from projections.file import views_path
from tests.ledger.histories import root
from tests.simulation.model import LIVE, Broken, Resource, must

if TYPE_CHECKING:
    from tests.simulation.network import Request
    from tests.simulation.world import World

COLUMNS = "position, stream, version, type, time, recorded, actor, key, correlation, data, salt, leaf"
"""Of an event, as the simulator reads it."""
SALTLESS = bytes(16)
"""The salt of what was erased."""


async def prove(world: World) -> None:
    """Fail the run where the file does not verify, or the views are not what a fresh fold of the log makes of it."""
    verdict = await verify_file(world.db)
    if not verdict.ok or verdict.size != world.model.size:
        world.fail(f"verify found {verdict}")
    fresh = world.db.with_name("fresh.db")
    async with Ledger.open(world.db, read_only=True) as ledger:
        engine = Engine(ledger, fresh)
        await engine.open()
        await engine.close()
    found = _compare(views_path(world.db), fresh)
    if found:
        world.fail(f"the views differ from a fresh fold: {found[:5]}")


def check(world: World) -> None:
    """Raise ``Broken`` for the first thing that is not as it must be."""
    world.counts["checks"] += 1
    rows = _rows(world)
    _check_append_only(world, rows)
    _check_proofs(world, [row[-1] for row in rows])
    _check_operations(world)
    _check_debts(world)
    _check_sent(world)
    _check_over(world)
    _check_forgotten(world, rows)


def _rows(world: World) -> list[tuple[Any, ...]]:
    connection = world.disk.look(world.db)
    try:
        return connection.execute(f"SELECT {COLUMNS} FROM events ORDER BY position").fetchall()  # type: ignore[no-any-return]
    finally:
        connection.close()


def _check_append_only(world: World, rows: list[tuple[Any, ...]]) -> None:
    must(len(rows) == len(world.raw), f"{len(rows)} events, {len(world.raw)} were committed")
    erased = {each.id for each in world.model.resources.values() if each.now.is_erased}
    for now, then in zip(rows, world.raw, strict=True):
        must(now[:9] == then[:9] and now[-1] == then[-1], f"position {now[0]} was {then}, is {now}")
        if now[9] != then[9] or now[10] != then[10]:
            must(now[1] in erased, f"the data of position {now[0]} was changed")


def _check_proofs(world: World, leaves: list[bytes]) -> None:
    for row in world.raw:
        if row[10] != SALTLESS:
            payload = hashlib.sha256(row[10] + row[9]).hexdigest()
            must(
                any(_is_leaf(row, schema, payload) for schema in (1, 2, 3)),
                f"the leaf of position {row[0]} is not its own",
            )
    for kept in world.checkpoints:
        found = base64.b64encode(root(leaves[: kept.size])).decode()
        signed = kept.root if isinstance(kept.root, str) else base64.b64encode(kept.root).decode()
        must(found == signed, f"a checkpoint of {kept.size} events has another root")
        world.counts["checkpoints"] += 1


def _is_leaf(row: tuple[Any, ...], schema: int, payload: str) -> bool:
    position, stream, version, type, time, recorded, actor, key, correlation = row[:9]
    data = msgspec.json.encode(
        [position, stream, version, type, schema, time, recorded, actor, key, correlation, payload]
    )
    return hashlib.sha256(b"\x00" + data).digest() == row[-1]


def _check_operations(world: World) -> None:
    for operation in dict.fromkeys(world.requests.values()):
        for attempt in operation.attempts:
            if attempt.status is None or attempt.status >= 500:
                continue
            own = [each for each in operation.effects if each[0].correlation == attempt.request_id]
            if attempt.status // 100 != 2 and operation.request_id is None:
                must(
                    all(each[0].verb == "refused" for each in own),
                    f"answered {attempt.status}, recorded later: {operation!r}",
                )


def _check_debts(world: World) -> None:
    for resource in world.model.resources.values():
        owed = resource.owed
        if owed is None:
            continue
        must(owed.status != "owed", f"the callback of {resource.id} is owed still, after {owed.outcomes}")
        is_given_up = owed.status == "abandoned" and owed.reason == "imported"
        must(is_given_up == (resource.id in world.model.imported), f"{resource.id}: given up for {owed.reason}")
        if owed.status == "delivered":
            must(any(error is None for _, error in owed.outcomes), f"{resource.id} delivered without an answer")


def _check_sent(world: World) -> None:
    by_id: dict[str, list[Request]] = defaultdict(list)
    for request in world.network.received:
        by_id[msgspec.json.decode(request.body)["job_id"]].append(request)
    for id, requests in by_id.items():
        resource = world.model.resources.get(id)
        must(resource is not None, f"a callback of {id}, which does not exist")
        assert resource is not None
        must(len({each.webhook_id for each in requests}) == 1, f"{id} has several webhook-ids")
        must(len({each.body for each in requests}) == 1, f"the body for {id} changed")
        must(id not in world.model.imported, f"a callback of {id}, which was imported")
        if resource.now.is_erased:
            continue
        _check_requests(resource, requests)
    for id, resource in world.model.resources.items():
        known = len([each for each in by_id[id] if each.outcome is not None])
        if resource.owed is not None:
            told = sum(1 for status, _ in resource.owed.outcomes if status is not None)
            must(told <= known, f"{told} answers about {id} are recorded, {known} were given")


def _check_requests(resource: Resource, requests: list[Request]) -> None:
    owed = resource.owed
    must(owed is not None, f"{resource.id} owed nothing and was sent")
    assert owed is not None
    said = msgspec.json.decode(requests[0].body)
    ended = next(each for each in resource.events if each.position == owed.ended_position)
    latest_us = max(each.time for each in resource.events if each.position <= ended.position)
    must(
        said == {**owed.body, "completed_at": to_text(latest_us)},
        f"{resource.id} was sent {said}, not {owed.body} of {latest_us}",
    )
    for request in requests:
        must(request.size >= owed.ended_position, f"{resource.id} was sent before it had ended")
    lost = [each for each in requests if not each.sender.ended_well]
    unrecorded = len(requests) - sum(1 for _, error in owed.outcomes if error != "connection_failed")
    must(
        unrecorded <= len(lost),
        f"{resource.id}: {len(requests)} sent, recorded {owed.outcomes}, {len(lost)} by the dead",
    )
    delivered = [each for each in requests if each.outcome is not None and each.outcome.error is None]
    must(len(delivered) <= 1 + owed.requeues + len(lost), f"{resource.id} was delivered {len(delivered)} times")


def _check_over(world: World) -> None:
    for resource in world.model.resources.values():
        now = resource.now
        if resource.timeout_s is not None and now.status in LIVE and now.is_visible:
            must(now.status != "running", f"{resource.id} runs past its timeout of {resource.timeout_s} s")


def _words(value: Any) -> list[str]:
    text = msgspec.json.encode(value).decode()
    return [part[:17] for part in text.replace('"', " ").split() if part[:1] == "w" and len(part) == 17]


def words_of(world: World, streams: Collection[str]) -> list[str]:
    """Return the words that events of some streams held when they were recorded."""
    rows = (row for row in world.raw if row[1] in streams and row[10] != SALTLESS)
    return [word for row in rows for word in _words(msgspec.Raw(row[9]))]


def _check_forgotten(world: World, rows: list[tuple[Any, ...]]) -> None:
    erased = {each.id for each in world.model.resources.values() if each.now.is_erased}
    words = words_of(world, erased)
    if not words:
        return
    for path in world.db.parent.iterdir():
        content = path.read_bytes() if path.is_file() else b""
        for word in words:
            if word.encode() in content:
                raise Broken(f"{word}, which was erased, stands in {path.name}")
