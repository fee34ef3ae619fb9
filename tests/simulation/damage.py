"""What becomes of the views file under running servers: damaged, deleted, or another in its place.

Only damage that SQLite can notice is done: a page that is none, a file cut short or none of its own. It has no
checksums, so a row that is quietly another is nobody's to notice but ``verify --views``. The write-ahead log is left
alone for the same reason: where its end is lost after a part of it was written back, two ages of a file mix.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ledger import engine as sqlite
from projections.file import views_path
from tests.simulation.imports import image

if TYPE_CHECKING:
    from tests.simulation.world import World

ENDINGS = ("", "-wal", "-shm")
GARBAGE = b"\xff"
"""No page of SQLite's begins with it."""
PAGE_SIZE = 16_384
LISTS = ("/v1/jobs?limit=1000", "/v1/runs?limit=1000", "/v1/messages/batches?limit=1000")
MENDED_IN_S = 10.0
"""How long a server may take from the first question that found damage to views made anew."""


async def harm(world: World) -> None:
    """Do one thing to the views file."""
    path = views_path(world.db)
    if not path.exists():
        return
    if world.chance.random() < 0.3:
        world.old_views = _copy(world, path) or world.old_views
    how = world.chance.choice([_overwrite, _overwrite, _behead, _cut, _delete, _foreign, _old, _nonsense, _empty])
    world.counts["damages"] += 1
    world.tell(f"the views: {how.__name__.lstrip('_')}")
    how(world, path)
    for process in world.disk.processes:
        for connection in process.connections.values():
            if connection.path.name == path.name:  # what it holds in memory would hide what became of the file
                connection._raw.execute("PRAGMA shrink_memory")


async def see_mended(world: World) -> None:
    """Fail where a server whose views were harmed does not read by whole ones soon after it was asked."""
    if not world.counts["damages"]:
        return
    for last in (False, True):
        for server in [each for each in world.servers if each.is_serving]:
            for path in LISTS:
                answer = await server.send("GET", path, {"Authorization": f"Bearer {world.token}"}, b"", 60.0)
                if answer is not None and answer.status != 200 and last and not server.is_broken:
                    world.fail(f"{server.process.name} does not mend its views: {path} {answer.status} {answer.body!r}")
        if not last:
            await world.loop.pass_time(MENDED_IN_S)


def _copy(world: World, path: Path) -> bytes | None:
    connection = world.disk.look(path)
    try:
        return image(connection, world.db.parent / "brought" / "image.db")
    except sqlite.DatabaseError:  # it is damaged already
        return None
    finally:
        connection.close()


def _overwrite(world: World, path: Path) -> None:
    """Spoil some pages, once the file itself has what it holds."""
    _write_back(path)
    pages = path.stat().st_size // PAGE_SIZE
    with path.open("r+b") as file:
        for page in range(1, pages):
            if world.chance.random() < 0.5:
                file.seek(page * PAGE_SIZE)
                file.write(GARBAGE * PAGE_SIZE)


def _behead(world: World, path: Path) -> None:
    """Spoil the head, by which it is known as a database."""
    _write_back(path)
    with path.open("r+b") as file:
        file.write(GARBAGE * world.chance.choice([16, PAGE_SIZE]))


def _cut(world: World, path: Path) -> None:
    """Cut it short."""
    _write_back(path)
    os.truncate(path, world.chance.randrange(path.stat().st_size + 1) // PAGE_SIZE * PAGE_SIZE)


def _write_back(path: Path) -> None:
    connection = sqlite.library._library.connect(str(path), timeout=0.0)
    try:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
    except sqlite.DatabaseError:  # it is damaged already, or somebody writes
        return
    finally:
        connection.close()


def _delete(_world: World, path: Path) -> None:
    _remove(path)


def _foreign(world: World, path: Path) -> None:
    """Put the views of another ledger in its place."""
    _replace(path, world.foreign_views)


def _old(world: World, path: Path) -> None:
    """Put its own past in its place, as a backup does."""
    _replace(path, world.old_views or world.foreign_views)


def _nonsense(_world: World, path: Path) -> None:
    _replace(path, b"this is no database, whatever its name says\n" * 1000)


def _empty(_world: World, path: Path) -> None:
    _replace(path, b"")


def _replace(path: Path, content: bytes) -> None:
    other = path.with_name("other.db")
    other.write_bytes(content)
    _remove(path)
    other.rename(path)


def _remove(path: Path) -> None:
    for ending in ENDINGS:
        Path(f"{path}{ending}").unlink(missing_ok=True)
