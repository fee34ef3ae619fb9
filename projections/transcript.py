"""Pages of what was said in runs, steps and batches.

A message stands where its first part arrived. The parts of one message share its id, and a page never splits them:
clients that page by id get each part once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import msgspec

from ledger.errors import BadRequest
from projections.progress import MEMBERS
from projections.query import Where
from projections.views import VISIBLE, Views


class Part(NamedTuple):
    """One row of the messages view."""

    position: int
    run_id: str
    id: str
    wire: bytes


class Pages(msgspec.Struct, frozen=True, kw_only=True):
    """Which page: ``after`` and ``before`` are ids in the asked order, nearest the cursor; ``limit`` rows."""

    descending: bool
    after: str | None = None
    before: str | None = None
    limit: int = 100

    @property
    def backwards(self) -> bool:
        """Whether the page is read against the asked order, from ``before`` outwards."""
        return self.before is not None and self.after is None

    @property
    def falls(self) -> bool:
        """Whether rows are read from the last to the first."""
        return self.descending != self.backwards


class Scope(NamedTuple):
    """Which messages a list is of: the condition, and the same for a row that is found by its message's id.

    The latter shields columns (``+run_id``) that would lure SQLite away from the index of ids.
    """

    where: Where
    by_id: str


def of_run(run_id: str) -> Scope:
    """Return the messages of a run."""
    where = Where()
    where.add("run_id = :run_id", run_id=run_id)
    return Scope(where, "run_id = :run_id")


def of_step(run_id: str, step_id: str) -> Scope:
    """Return the messages of a step."""
    where = of_run(run_id).where
    where.add("step_id = :step_id", step_id=step_id)
    return Scope(where, "run_id = :run_id AND +step_id = :step_id")


def of_batch(batch_id: str, agent_id: str | None) -> Scope:
    """Return the messages of a batch's runs, or of those of one agent."""
    where = Where()
    mine = f"SELECT runs.id FROM {MEMBERS} WHERE runs.batch_id = :batch_id AND {VISIBLE}"
    if agent_id is not None:
        mine += " AND runs.agent_id = :agent_id"
        where.parameters["agent_id"] = agent_id
    where.add(f"run_id IN ({mine})", batch_id=batch_id)
    return Scope(where, f"+run_id IN ({mine})")


async def messages(views: Views, scope: Scope, pages: Pages) -> tuple[list[Part], bool]:
    """Return one page of messages in the asked order, and whether there is more behind it.

    A message stands where its first part arrived, so parts that arrive later, in between the parts of others, move
    nothing that a client has walked past. Raises ``BadRequest`` for a cursor that is no message of the scope.
    """
    heads = await _heads(views, scope, pages)
    ids: list[str] = []
    held = 0
    for id, count in heads:
        if held >= pages.limit:
            break
        ids.append(id)
        held += count
    rows = await _parts(views, scope, ids)
    place = {id: number for number, id in enumerate(ids)}
    sign = -1 if pages.falls else 1
    rows.sort(key=lambda part: (place[part.id], sign * part.position))
    if pages.backwards:
        rows.reverse()
    return rows, len(ids) < len(heads)


async def spoken(views: Views, scope: Scope, pages: Pages) -> tuple[list[Part], bool]:
    """Return all parts of one page of whole messages, oldest first; ``limit`` counts messages here.

    Raises ``BadRequest`` as ``messages`` does.
    """
    heads = await _heads(views, scope, pages)
    ids = [id for id, _ in heads[: pages.limit]]
    rows = await _parts(views, scope, ids)
    place = {id: number for number, id in enumerate(reversed(ids) if pages.falls else ids)}
    rows.sort(key=lambda part: (place[part.id], part.position))
    return rows, len(heads) > pages.limit


async def agents_of(views: Views, run_ids: Collection[str]) -> dict[str, str]:
    """Return the agent of each of many runs."""
    wanted = msgspec.json.encode(sorted(set(run_ids))).decode()
    text = "SELECT id, agent_id FROM runs WHERE id IN (SELECT value FROM json_each(:ids))"
    return dict(await views.read(text, {"ids": wanted}))


async def _heads(views: Views, scope: Scope, pages: Pages) -> list[tuple[str, int]]:
    """Return the messages of a page and one more: id and number of parts, by where their first parts stand."""
    where = Where()
    where.conditions, where.parameters = [*scope.where.conditions], {**scope.where.parameters}
    for name, id, is_later in (("after", pages.after, True), ("before", pages.before, False)):
        if id is not None:
            rises = is_later != pages.descending
            where.add(f"position {'>' if rises else '<'} :{name}", **{name: await _first(views, scope, id)})
    same = f"FROM messages AS other WHERE other.id = messages.id AND {scope.by_id}"
    where.add(f"NOT EXISTS (SELECT 1 {same} AND other.position < messages.position)")
    order = f"ORDER BY position {'DESC' if pages.falls else 'ASC'}"
    text = (
        f"SELECT id, (SELECT count(*) {same}) FROM messages WHERE position IN "
        f"(SELECT position FROM messages WHERE {where} {order} LIMIT :limit) {order}"
    )
    rows = await views.read(text, {**where.parameters, "limit": pages.limit + 1})
    return [(id, count) for id, count in rows]


async def _parts(views: Views, scope: Scope, ids: Sequence[str]) -> list[Part]:
    chosen = "id IN (SELECT value FROM json_each(:ids))"
    text = f"SELECT position, run_id, id, wire FROM messages WHERE {chosen} AND {scope.by_id}"
    rows = await views.read(text, {**scope.where.parameters, "ids": msgspec.json.encode(ids).decode()})
    return [Part(*row) for row in rows]


async def _first(views: Views, scope: Scope, id: str) -> int:
    text = f"SELECT min(position) FROM messages WHERE id = :id AND {scope.by_id}"
    first: int | None = (await views.read(text, {**scope.where.parameters, "id": id}))[0][0]
    if first is None:
        raise BadRequest(reason=f"The cursor '{id}' is not an id in this list.")
    return first
