"""Several server processes on one ledger and one port: a parent that starts them, replaces what died, and stops all.

The parent takes no requests, opens no ledger, and has neither threads nor an event loop: so forking is safe, and
nothing that a worker does can take it along. Workers end when their parent is gone, whatever became of it.

A worker that takes connections shows signs of life, from its event loop, by the pipe on which it said that it is ready:
so the parent has one place to listen, and needs no clock, file or memory in common with it. One without a sign for too
long is killed and replaced. That time is counted in beats of the parent, each of which counts for as long as it should
take and no longer: what stops both, such as a laptop that is closed, is no silence.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from types import FrameType
from typing import Final

import structlog

from ledger import engine as sqlite
from ledger.errors import invalid

RETRY_S: Final = (0.0, 1.0, 2.0, 5.0)
"""Waits before a worker is started again, by how often it ended or could not be started, in a row: what has served for
``STEADY_S`` begins a new one. No longer, as its share of the connections waits for it."""
STEADY_S: Final = 10.0
KILL_AFTER_S: Final = 10.0
"""Wait for a worker beyond the time that it has for a clean stop."""
SIGN_S: Final = 1.0
"""How often a worker shows a sign of life, and how long a beat of the parent counts at most."""
_READY: Final = b"r"
_ALIVE: Final = b"."
_HEARD_MAX: Final = 4096
"""Bytes that are heard at once: a parent that was stopped for an hour finds as many signs."""
_STOPS: Final = (signal.SIGTERM, signal.SIGINT)
_CLEAN: Final = (0, *(-number for number in _STOPS))
"""How a worker ends that is told to stop; by the signal itself where it was only about to listen to that."""

log = structlog.get_logger("workers")


class Place:
    """What a worker gets from its parent: which one it is, where it listens, and whom to tell that it does.

    ``is_first``: of the first start, so that it shows what a user should see once.
    """

    def __init__(self, number: int, is_first: bool, sockets: Sequence[socket.socket], told: int, parent: int) -> None:
        self.number = number
        self.is_first = is_first
        self.sockets = sockets
        self.parent = parent
        """A descriptor that gets readable when the parent has ended."""
        self._told = told

    def ready(self) -> None:
        """Tell the parent that this worker takes connections; from now on it shows life each ``SIGN_S``."""
        self._tell(_READY)

    def show_life(self) -> None:
        """Tell the parent that this worker goes on."""
        self._tell(_ALIVE)

    def _tell(self, what: bytes) -> None:
        # The parent has ended, and this worker stops as it sees that; or it is stopped, with a pipe full of signs.
        with contextlib.suppress(BrokenPipeError, BlockingIOError):
            os.write(self._told, what)


class _Worker:
    """One place among the workers, with the process that has it now, if there is one."""

    def __init__(self, number: int, sockets: Sequence[socket.socket]) -> None:
        self.number = number
        self.sockets = sockets
        self.pid = 0
        self.told = -1
        self.is_ready = False
        self.silent_s = 0.0
        """For how long it has shown no sign of life, since it is ready."""
        self.began_s = 0.0
        self.start_at_s = 0.0
        self.failures = 0


def check(count: int) -> None:
    """Raise ``InvalidInput`` where this machine or its SQLite cannot have several workers."""
    if count > 1 and sqlite.has_wal_reset_bug():
        version = sqlite.library.sqlite_version
        reason = f"must be 1 with SQLite {version}, which can corrupt a file that several processes write"
        raise invalid("--workers", f"{reason}; install pysqlite3 (pip install pysqlite3)")
    if count > 1 and not (hasattr(os, "fork") and hasattr(socket, "SO_REUSEPORT")):
        raise invalid("--workers", "must be 1 on this system: it has no fork or no SO_REUSEPORT")


class Parent:
    """Keeps a worker in each place until it is told to stop.

    ``work`` is what a worker does: it returns when it has stopped, and raises what it failed of. ``on_ready`` is called
    once, when all of them take connections. A worker that does, and then shows no life for ``hung_after_s``, is killed.
    """

    def __init__(
        self,
        shares: Sequence[Sequence[socket.socket]],
        work: Callable[[Place], None],
        on_ready: Callable[[], None],
        stop_timeout_s: float,
        hung_after_s: float,
    ) -> None:
        self._workers = [_Worker(number, sockets) for number, sockets in enumerate(shares, 1)]
        self._work = work
        self._on_ready = on_ready
        self._stop_timeout_s = stop_timeout_s + KILL_AFTER_S
        self._hung_after_s = hung_after_s
        self._selector = selectors.DefaultSelector()
        self._lifeline = os.pipe()
        self._signalled = -1
        """A descriptor that has the number of each signal that came."""
        self._can_begin = False
        """Whether the first worker was ready once, so that the others may start, too."""
        self._has_begun = False
        self._beat_at_s = 0.0
        self._kill_at_s = 0.0
        """When workers that are still there are killed; 0 until the stop."""
        self._code = 0
        self._pid = os.getpid()

    @property
    def is_alive(self) -> bool:
        """Whether this process is a worker whose parent is there."""
        return os.getppid() == self._pid

    def run(self) -> int:
        """Start the workers and look after them until SIGTERM or SIGINT; return the exit code.

        In a worker it returns too, once its work has ended. Where the first of them fails before it is ready, the
        others are not started.
        """
        with self._signals():
            if self._start(self._workers[0]):
                return 0
            while any(worker.pid for worker in self._workers) or not self._kill_at_s:
                if self._beat():
                    return 0
        return self._code

    def _beat(self) -> bool:
        """Wait for what happens next, and act on it; True in a worker, when that has ended."""
        told = self._selector.select(self._wait_s())
        self._count()
        for key, _ in told:
            if isinstance(key.data, _Worker):
                self._hear(key.data)
        self._take_signals()  # also where none was there yet: who is told to stop along with a worker, stops with it
        for worker in self._workers:
            if worker.pid:
                self._reap(worker)
        now_s = time.monotonic()
        if self._kill_at_s:
            self._kill_late(now_s)
            return False
        self._watch()
        waiting = [worker for worker in self._workers if not worker.pid and worker.start_at_s <= now_s]
        return self._can_begin and any(self._start(worker) for worker in waiting)

    def _wait_s(self) -> float | None:
        if self._kill_at_s:
            return max(self._kill_at_s - time.monotonic(), 0.0)
        now_s = time.monotonic()
        waits = [worker.start_at_s - now_s for worker in self._workers if not worker.pid and worker.start_at_s]
        if any(worker.is_ready for worker in self._workers):
            waits.append(SIGN_S)
        return max(min(waits), 0.0) if waits else None

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Have signals written to a pipe that the loop reads, so that none comes at a wrong moment."""
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        before = {number: signal.signal(number, _noted) for number in (*_STOPS, signal.SIGCHLD)}
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        self._signalled = reading
        self._selector.register(reading, selectors.EVENT_READ)
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(writing)
            os.close(reading)

    def _take_signals(self) -> None:
        with contextlib.suppress(BlockingIOError):  # there are none
            if set(os.read(self._signalled, 4096)) & set(_STOPS):
                self._stop()

    def _stop(self) -> None:
        self._kill_at_s = self._kill_at_s or time.monotonic() + self._stop_timeout_s
        for worker in self._workers:
            for each in worker.sockets:  # who connects while workers answer the last requests is refused, and not hung
                each.close()
            if worker.pid:
                os.kill(worker.pid, signal.SIGTERM)

    def _count(self) -> None:
        """Count what passed since the last beat as silence of each worker, but no more than a beat should take."""
        now_s = time.monotonic()
        awake_s, self._beat_at_s = min(now_s - self._beat_at_s, SIGN_S), now_s
        for worker in self._workers:
            worker.silent_s += awake_s

    def _watch(self) -> None:
        """Kill a worker that has been silent for too long: one a beat, since telling of it may have to wait.

        What reads our log may have been stopped, so that all workers wait for it: they go on as it does.
        """
        late = (worker for worker in self._workers if worker.is_ready and worker.silent_s >= self._hung_after_s)
        if hung := next(late, None):
            os.kill(hung.pid, signal.SIGKILL)
            log.error("worker.hung", worker=hung.number, pid=hung.pid, silent_s=round(hung.silent_s, 1))
            hung.silent_s = 0.0  # one that the kernel cannot end yet is told of again, as long after this

    def _kill_late(self, now_s: float) -> None:
        if now_s < self._kill_at_s:
            return
        for worker in self._workers:
            if worker.pid:
                log.error("worker.killed", worker=worker.number, pid=worker.pid)
                os.kill(worker.pid, signal.SIGKILL)
        self._code = 1
        self._kill_at_s = now_s + KILL_AFTER_S

    def _start(self, worker: _Worker) -> bool:
        """Fork a worker; True in it, when its work has ended. One that the system has no room for is tried again."""
        try:
            pid, told, held = _fork()
        except OSError as error:
            if not self._can_begin:
                raise
            log.error("worker.not_started", worker=worker.number, error=str(error))  # noqa: TRY400 - no mistake of ours
            self._put_off(worker)
            return False
        if not pid:
            self._become(worker, told, held)
            return True
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        self._selector.register(told, selectors.EVENT_READ, worker)
        worker.pid, worker.told, worker.is_ready = pid, told, False
        worker.began_s, worker.start_at_s = time.monotonic(), 0.0
        return False

    def _put_off(self, worker: _Worker) -> None:
        """Start a worker again later, the later the more often it failed."""
        worker.failures += 1
        worker.start_at_s = time.monotonic() + RETRY_S[min(worker.failures, len(RETRY_S)) - 1]

    def _become(self, worker: _Worker, told: int, held: Collection[int]) -> None:
        """Be a worker, in its process: let go of what is the parent's, and work."""
        signal.set_wakeup_fd(-1)
        for number in (*_STOPS, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        os.set_blocking(told, False)
        os.close(self._lifeline[1])
        self._selector.close()
        for other in self._workers:
            if other.told >= 0:
                os.close(other.told)
            for each in other.sockets if other is not worker else ():
                each.close()
        is_first = worker.number == 1 and not self._has_begun
        self._work(Place(worker.number, is_first, worker.sockets, told, self._lifeline[0]))

    def _hear(self, worker: _Worker) -> None:
        heard = os.read(worker.told, _HEARD_MAX)
        worker.silent_s = 0.0
        if _READY in heard:
            worker.is_ready = self._can_begin = True
            log.info("worker.ready", worker=worker.number, pid=worker.pid)
            if not self._has_begun and all(each.is_ready for each in self._workers):
                self._has_begun = True
                self._on_ready()
        elif not heard:
            self._selector.unregister(worker.told)

    def _reap(self, worker: _Worker) -> None:
        pid, status = os.waitpid(worker.pid, os.WNOHANG)
        if not pid:
            return
        code = os.waitstatus_to_exitcode(status)
        if worker.told in self._selector.get_map():
            self._selector.unregister(worker.told)
        os.close(worker.told)
        was_ready, worker.pid, worker.told, worker.is_ready = worker.is_ready, 0, -1, False
        if self._kill_at_s:
            if code not in _CLEAN:
                self._code = self._code or max(code, 1)
            return
        log.error("worker.died", worker=worker.number, pid=pid, code=code)
        if not self._has_begun and not was_ready:
            self._code = code if code > 0 else 1
            self._stop()
            return
        if time.monotonic() - worker.began_s >= STEADY_S:
            worker.failures = 0
        self._put_off(worker)


def _fork() -> tuple[int, int, Collection[int]]:
    """Fork; return the process id (0 in the child), this side's end of a pipe from child to parent, and the signals
    that were blocked before: SIGTERM and SIGINT are, so that one that comes now meets the handlers of whom it is for.
    """
    told_read, told_write = os.pipe()
    held = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    try:
        pid = os.fork()
    except BaseException:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        os.close(told_read)
        os.close(told_write)
        raise
    os.close(told_write if pid else told_read)
    return pid, told_read if pid else told_write, held


def _noted(_number: int, _frame: FrameType | None) -> None:
    """Take a signal; the loop reads of it from the pipe."""
