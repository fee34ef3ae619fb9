"""The disk under all processes: real SQLite files, statements that fail or stop in their middle, locks that wait.

Each connection is a real one behind a stand-in that may, before a statement, let other processes go on, fail as a bad
disk would, or die with its process; before a commit, so that nothing of it is there, or after it, so that all is.
"""

from __future__ import annotations

import contextlib
import fcntl
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from ledger import engine
from tests.simulation.loop import Loop
from tests.simulation.process import PROCESS, Process, locked

BUSY_WAITS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
"""Between two tries at a lock, about as SQLite's own busy handler waits."""
FAULTS = ("disk I/O error", "database or disk is full", "database is locked")
"""What SQLite says of a disk that fails, one that is full, and a lock that did not get free in time."""


class Weather(msgspec.Struct):
    """How bad the disk is: chances by statement."""

    pause: float = 0.02
    """That others go on before a statement."""
    fault: float = 0.0
    """That a statement fails."""
    commit_fault: float = 0.0
    """That a commit fails before anything of it is there."""
    slow: float = 0.01
    """That a pause is a long one, of up to a second."""


class Dead(BaseException):
    """Code of a process that is dead asks for its files: only when its remains are swept up."""


class Disk:
    """All files, and who has them open. ``on_commit`` is told of each commit to the ledger."""

    def __init__(self, loop: Loop, chance: random.Random, folder: Path, weather: Weather) -> None:
        self.loop = loop
        self.chance = chance
        self.folder = folder
        self.weather = weather
        self.processes: list[Process] = []
        self.faults: dict[str, int] = {}
        self.failed_commits = 0
        self.on_commit: Callable[[Process], None] = lambda process: None
        self.on_last_close: Callable[[], None] = lambda: None

    def look(self, path: Path) -> Any:
        """Return a connection of nobody's, with which the simulator itself reads a file."""
        return engine.library._library.connect(f"{path.as_uri()}?mode=ro", uri=True)

    def delay_s(self) -> float:
        """Return how long a hop to a thread takes."""
        return self.chance.uniform(10e-6, 300e-6)

    def pause_s(self) -> float:
        """Return how long a thread is put aside."""
        if self.chance.random() < self.weather.slow:
            return self.chance.uniform(0.01, 1.0)
        return self.chance.uniform(10e-6, 2e-3)

    def before(self, process: Process, sql: str, *, fails: bool) -> str | None:
        """Let happen what may before a statement; return what SQLite is to say instead of an answer, None: nothing."""
        if self.loop.is_hub():
            return None
        if process.has_last_statement():
            is_after = sql == "COMMIT" and self.chance.random() < 0.5
            if not is_after:
                self.die(process)
            process.is_dying = True
        elif self.chance.random() < self.weather.pause:
            self.loop.pause(self.pause_s())
        if not fails or process.is_dying:
            return None
        odds = self.weather.commit_fault if sql == "COMMIT" else self.weather.fault
        if not odds or self.chance.random() >= odds:
            return None
        fault = self.chance.choice(FAULTS if sql != "COMMIT" else FAULTS[:2])
        self.faults[fault] = self.faults.get(fault, 0) + 1
        process.faults += 1
        self.failed_commits += sql == "COMMIT"
        return fault

    def die(self, process: Process) -> None:
        """End the process in whose thread this is called; it does not return."""
        process.is_dying = True
        self.loop.vanish()

    def abandon(self, connection: Connection, raw: Any) -> None:
        """Close a connection of a process that was killed, which leaves the write-ahead log as it is."""
        others = [each for process in self.processes for each in process.connections.values()]
        if any(each.path == connection.path and each is not connection for each in others):
            raw.close()
            return
        self.on_last_close()
        kept = self.folder / "killed"  # the last to close a file would write its log back and remove it
        kept.mkdir()
        names = [connection.path, Path(f"{connection.path}-wal")]
        for name in names:
            if name.exists():
                shutil.copyfile(name, kept / name.name)
        raw.close()
        for name in names:
            if (kept / name.name).exists():
                shutil.copyfile(kept / name.name, name)
        shutil.rmtree(kept)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Let the product use this disk meanwhile, and its locks."""
        before = engine.library, engine.Connection, fcntl.flock
        engine.library, engine.Connection, fcntl.flock = Library(self, before[0]), self.connection(), self._flock
        try:
            yield
        finally:
            engine.library, engine.Connection, fcntl.flock = before

    def connection(self) -> Any:
        """Return the class of connections whose threads are simulated."""
        disk = self

        class Simulated(engine.Connection):
            def __init__(self, *args: Any, **options: Any) -> None:
                super().__init__(*args, **options)
                run = self._thread._target  # type: ignore[attr-defined]
                worker = disk.loop.worker()
                worker.bind(run)
                self._tx = self._thread = worker  # type: ignore[assignment]
                disk.loop.kept.append(self)

        return Simulated

    def sleep(self, seconds: float) -> None:
        """Have a thread of a process sleep; where that died meanwhile, it wakes up no more."""
        process = PROCESS.get()
        assert process is not None
        assert not self.loop.is_hub(), "the loop of a process sleeps"
        self.loop.pause(seconds)
        if not process.is_alive:
            self.loop.vanish()

    def _flock(self, handle: int, operation: int) -> None:
        process = PROCESS.get()
        assert process is not None
        for other in self.processes:  # one that dies must not close a file whose number was once its own
            other.locks.pop(handle, None)
        while True:
            try:
                _flock(handle, operation | fcntl.LOCK_NB)
            except BlockingIOError:
                if operation & fcntl.LOCK_NB:
                    raise
                assert not self.loop.is_hub(), "the loop of a process waits for a lock"
                self.loop.pause(self.pause_s())
                continue
            locked(process, handle)
            return


_flock = fcntl.flock


class Library:
    """The SQLite library, whose connections are behind stand-ins."""

    def __init__(self, disk: Disk, library: Any) -> None:
        self._disk = disk
        self._library = library

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, name)

    def connect(self, where: Any, **options: Any) -> Any:
        process = PROCESS.get()
        if process is None or ":memory:" in str(where):
            return self._library.connect(where, **options)
        if not process.is_alive:
            raise Dead
        patience_s = options.pop("timeout", 0.0)
        raw = self._library.connect(where, timeout=0.0, **options)
        path = Path(str(where).removeprefix("file://").partition("?")[0])
        return Connection(self._disk, process, raw, path, patience_s, is_writer="mode=rwc" in str(where))


class Connection:
    """A connection as the product sees it."""

    def __init__(
        self, disk: Disk, process: Process, raw: Any, path: Path, patience_s: float, *, is_writer: bool
    ) -> None:
        self._disk = disk
        self._process = process
        self._raw = raw
        self._patience_s = patience_s
        self.path = path
        self.is_writer = is_writer
        self._writes_log = is_writer and ".views" not in path.name
        process.connections[id(self)] = self

    def __getattr__(self, name: str) -> Any:
        if not self._process.is_alive:
            raise Dead
        return getattr(self._raw, name)

    def execute(self, sql: str, parameters: Any = ()) -> Any:
        if sql.startswith("PRAGMA busy_timeout"):
            self._patience_s = int(sql.rpartition(" ")[2]) / 1000
            return self._raw.execute("SELECT 1")
        return self._do(self._raw.execute, sql, parameters)

    def executemany(self, sql: str, rows: Any) -> Any:
        return self._do(self._raw.executemany, sql, rows)

    def backup(self, target: Connection, **options: Any) -> None:
        self._raw.backup(target._raw, **options)

    def close(self) -> None:
        """Close it in peace."""
        if self._process.connections.pop(id(self), None) is not None:
            others = [each for process in self._disk.processes for each in process.connections.values()]
            if not any(each.path == self.path for each in others):
                self._disk.on_last_close()
            self._raw.close()

    def abandon(self) -> None:
        """Close it as the kernel does for a process that was killed."""
        self._disk.abandon(self, self._raw)

    def _do(self, run: Callable[..., Any], sql: str, values: Any) -> Any:
        if not self._process.is_alive:
            raise Dead
        fault = self._disk.before(self._process, sql, fails=sql != "ROLLBACK")
        if fault is not None:
            if self._raw.in_transaction and self._disk.chance.random() < 0.3:
                self._raw.rollback()  # as SQLite does by itself after some errors of the disk
            raise engine.OperationalError(fault)
        done = self._run(run, sql, values)
        if sql == "COMMIT" and self._writes_log:
            self._disk.on_commit(self._process)
        if self._process.is_dying and not self._disk.loop.is_hub():
            self._disk.loop.vanish()
        return done

    def _run(self, run: Callable[..., Any], sql: str, values: Any) -> Any:
        waited_s = 0.0
        for wait_s in _waits():
            try:
                return run(sql, values)
            except engine.OperationalError as error:
                if "locked" not in str(error) or waited_s >= self._patience_s or self._disk.loop.is_hub():
                    raise
            self._disk.loop.pause(wait_s)
            waited_s += wait_s
        raise AssertionError("waits never end")


def _waits() -> Iterator[float]:
    yield from BUSY_WAITS_S
    while True:
        yield BUSY_WAITS_S[-1]
