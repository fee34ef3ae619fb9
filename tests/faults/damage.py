"""Files that are damaged while nobody has them open: the write-ahead log, the log, the views, the key."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from ledger import engine
from tests.cli.commandline import Done
from tests.faults import reads
from tests.faults.points import RECOVERED, Bench, clear_end
from tests.faults.starts import leaves_of

Damage = Callable[[Path, random.Random], object]


def _cut(path: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(1, len(content))])


def _garble(path: Path, chance: random.Random, first: int = 0) -> None:
    """Write chance over a part of a file; ``first``: the first byte of it that may change."""
    content = bytearray(path.read_bytes())
    begin = chance.randrange(first, max(first + 1, len(content) - 4096))
    content[begin : begin + 2048] = chance.randbytes(len(content[begin : begin + 2048]))
    path.write_bytes(content)


def _replace(path: Path, chance: random.Random) -> None:
    path.write_bytes(chance.randbytes(8192))


def _make_foreign(path: Path, _: random.Random) -> None:
    path.unlink()
    with contextlib.closing(engine.connect(path, read_only=False)) as connection:
        connection.execute("CREATE TABLE theirs (x)")


def _remove(path: Path, _: random.Random) -> None:
    path.unlink()


def _views(bench: Bench, damage: Damage) -> Iterator[str]:
    """Damage the views: every read must give the same as before, and the log be untouched."""
    for _ in range(3):
        db = bench.starts.copy("told", bench.place)
        token, answers = asyncio.run(reads.answers(db))
        before = leaves_of(db)
        damage(db.with_name("ledger.views.db"), bench.chance)
        first = bench.forks.run("checkpoint", "--db", db)
        rebuilt = bench.forks.run("rebuild", "--db", db)
        whole = bench.forks.run("verify", "--views", "--db", db)
        same = asyncio.run(reads.answers(db, token))[1] == answers and leaves_of(db) == before
        if first.code or rebuilt.code or whole.code:
            yield f"{_last(first)} / {_last(rebuilt)} / {_last(whole)}"
        else:
            yield RECOVERED if same else "reads differ from before"


def _wal(bench: Bench, damage: Damage) -> Iterator[str]:
    """Damage the write-ahead log that a crash left: a prefix of the history is left, whole, and goes on."""
    for _ in range(5):
        db = bench.starts.copy("crashed", bench.place)
        damage(db.with_name("ledger.db-wal"), bench.chance)
        yield _a_prefix(bench, db)


def _shm(bench: Bench) -> Iterator[str]:
    for _ in range(3):
        db = bench.starts.copy("crashed", bench.place)
        db.with_name("ledger.db-shm").write_bytes(bench.chance.randbytes(32768))
        found = _a_prefix(bench, db)
        yield found if leaves_of(db)[: len(bench.starts.leaves["crashed"])] else "all is lost"


def _a_prefix(bench: Bench, db: Path) -> str:
    all_of_it = bench.starts.leaves["crashed"]
    append = bench.forks.run("token", "create", "--db", db)
    verify = bench.forks.run("verify", "--db", db)
    if append.code or verify.code:
        return f"{_last(append)} / {_last(verify)}"
    left = leaves_of(db)[:-1]
    return RECOVERED if left == all_of_it[: len(left)] else "what is left is no prefix of what was recorded"


def _log(bench: Bench, damage: Damage) -> Iterator[str]:
    """Damage the log itself: an error must say so, and nothing more be written over it by a look."""
    for _ in range(6):
        db = bench.starts.copy("used", bench.place)
        damage(db, bench.chance)
        harmed = db.read_bytes()
        done = bench.forks.run("verify", "--db", db)
        untouched = db.read_bytes() == harmed
        seen = clear_end(done)
        if not done.code:
            whole = _rows_of(bench.starts.copy("used", bench.place))
            db.write_bytes(harmed)
            seen = "nothing that is used was hit" if _rows_of(db) == whole else "done, though rows are others"
        yield f"verify: {seen}{'' if untouched else ', and the file was changed'}"


def _rows_of(db: Path) -> list[str]:
    """Return every row of every table, and the bytes of it."""
    with contextlib.closing(engine.connect(db, read_only=True)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return [repr(row) for name in sorted(tables) for row in connection.execute(f"SELECT * FROM {name}")]


def _key(bench: Bench, damage: Damage) -> Iterator[str]:
    db = bench.starts.copy("signed", bench.place)
    damage(db.with_name("ledger.key"), bench.chance)
    done = bench.forks.run("checkpoint", "--db", db)
    log = bench.forks.run("verify", "--db", db)
    yield f"checkpoint: {clear_end(done)}, the log: {clear_end(log)}"


def _put_a_folder(path: Path, _: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _expose(path: Path, _: random.Random) -> None:
    path.chmod(0o644)


def _last(done: Done) -> str:
    return (done.err or done.out).strip().splitlines()[-1] if done.code else "good"


WHOLE = "verify: (nothing that is used was hit|a clear error)"
ROWS = (
    ("the write-ahead log is cut short", partial(_wal, damage=_cut), RECOVERED),
    ("the write-ahead log is garbled", partial(_wal, damage=_garble), RECOVERED),
    ("the write-ahead log is missing", partial(_wal, damage=_remove), RECOVERED),
    ("the shared memory is garbage", _shm, RECOVERED),
    ("the views are cut short", partial(_views, damage=_cut), RECOVERED),
    ("the views are garbled", partial(_views, damage=_garble), RECOVERED),
    ("the views are garbage", partial(_views, damage=_replace), RECOVERED),
    ("the views are another database", partial(_views, damage=_make_foreign), RECOVERED),
    ("the views are deleted", partial(_views, damage=_remove), RECOVERED),
    ("pages of the log are garbled", partial(_log, damage=partial(_garble, first=4096)), WHOLE),
    ("the log is cut short", partial(_log, damage=_cut), "verify: a clear error"),
    ("the log is garbage", partial(_log, damage=_replace), "verify: a clear error"),
    ("the key is garbage", partial(_key, damage=_replace), "checkpoint: a clear error, the log: done"),
    ("the key is cut short", partial(_key, damage=_cut), "checkpoint: a clear error, the log: done"),
    ("the key is missing", partial(_key, damage=_remove), "checkpoint: done, the log: done"),
    ("the key is a folder", partial(_key, damage=_put_a_folder), "checkpoint: a clear error, the log: done"),
    ("the key can be read by others", partial(_key, damage=_expose), "checkpoint: a clear error, the log: done"),
)
