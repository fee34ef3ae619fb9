"""A virtual event loop: time is data, several processes take turns by chance, and threads switch where the seed says.

What a process would do on threads is done in greenlets, one at a time, which may be put aside between two statements:
so a transaction of one process is in its middle while others go on, and a run is the same each time. Within a process
callbacks run in the order in which they were scheduled, as asyncio promises; between processes nothing is promised.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import greenlet

from tests.simulation.process import PROCESS, Process

TURN_S = 5e-6
"""What one callback takes of virtual time, so that a loop that only yields cannot stop the clock."""
TURNS_MAX = 3_000_000
"""Callbacks of one run, some 30 times the longest; beyond it something spins."""


class Stuck(Exception):
    """Nothing is ready, nothing is due, and nobody outside could change that: somebody waits for ever."""


class Task(asyncio.Task[Any]):
    """A task whose place in a set is the same in each run."""

    _numbers = itertools.count()

    def __init__(self, *args: Any, **options: Any) -> None:
        self._number = next(self._numbers)
        super().__init__(*args, **options)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class Ready:
    """Callbacks that are ready, a queue for each process; chance says whose turn it is."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._queues: dict[Process | None, deque[asyncio.Handle]] = {}

    def __bool__(self) -> bool:
        return bool(self._queues)

    def append(self, handle: asyncio.Handle) -> None:
        process = process_of(handle)
        if process is None or process.is_alive:
            self._queues.setdefault(process, deque()).append(handle)

    def pop(self) -> tuple[Process | None, asyncio.Handle]:
        processes = list(self._queues)
        process = processes[0] if len(processes) == 1 else self._chance.choice(processes)
        queue = self._queues[process]
        handle = queue.popleft()
        if not queue:
            del self._queues[process]
        return process, handle

    def drop(self, process: Process) -> None:
        self._queues.pop(process, None)

    def clear(self) -> None:
        self._queues.clear()


def process_of(handle: asyncio.Handle) -> Process | None:
    """Return the process that a callback belongs to; None: the world outside."""
    return handle._context.get(PROCESS)  # type: ignore[attr-defined, no-any-return]


class Loop(asyncio.BaseEventLoop):
    """The loop of a whole run. ``on_error`` is told of whatever nobody handled."""

    def __init__(self, chance: random.Random, delay_s: Callable[[], float], on_error: Callable[[str], None]) -> None:
        super().__init__()
        Task._numbers = itertools.count()
        self._now_s = 0.0
        self._delay_s = delay_s
        self._ready = Ready(chance)
        self._hub = greenlet.getcurrent()
        self.kept: list[Any] = []
        """What must not be collected before the end of the run: the remains of the dead."""
        self.turns = 0
        self.set_task_factory(self._new_task)
        self.set_exception_handler(lambda loop, context: on_error(_said(context)))

    def time(self) -> float:
        return self._now_s

    def _new_task(self, loop: Any, work: Any, **options: Any) -> Task:
        task = Task(work, loop=self, **options)
        self.kept.append(task)
        return task

    def unheard(self) -> list[str]:
        """Return the errors of tasks that nobody asked for."""
        tasks = [each for each in self.kept if isinstance(each, Task) and each.done() and not each.cancelled()]
        return [f"{task.get_name()}: {task.exception()!r}" for task in tasks if task._log_traceback]  # type: ignore[attr-defined]

    def _run_once(self) -> None:
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0].cancelled():
            heapq.heappop(scheduled)._scheduled = False  # type: ignore[attr-defined]
        if not self._ready:
            if not scheduled:
                raise Stuck("somebody waits for what will never come")
            self._now_s = max(self._now_s, scheduled[0].when())
        self._now_s += TURN_S
        self.turns += 1
        if self.turns > TURNS_MAX:
            raise Stuck(f"{TURNS_MAX} turns and no end: something spins")
        while scheduled and scheduled[0].when() <= self._now_s:
            due = heapq.heappop(scheduled)
            due._scheduled = False  # type: ignore[attr-defined]
            if not due.cancelled():
                self._ready.append(due)
        if not self._ready:
            return
        process, handle = self._ready.pop()
        if handle.cancelled():
            return
        handle._run()  # type: ignore[attr-defined]
        if process is not None and process.is_over():
            self.kill(process)

    def kill(self, process: Process) -> None:
        """End a process as ``kill -9`` does: nothing of it runs any more, and what it held is let go."""
        if process.is_alive:
            self._ready.drop(process)
            process.die()

    async def pass_time(self, seconds: float) -> None:
        """Let virtual time pass."""
        over = self.create_future()
        timer = self.call_later(seconds, lambda: over.done() or over.set_result(None))
        try:
            await over
        finally:
            timer.cancel()

    # -- threads

    def is_hub(self) -> bool:
        """Whether this is the loop itself, which cannot wait, and no thread of a process."""
        return greenlet.getcurrent() is self._hub

    def pause(self, seconds: float) -> None:
        """Put the thread that calls this aside for a while; others go on meanwhile."""
        thread = greenlet.getcurrent()
        self.call_later(seconds, thread.switch)
        self._hub.switch()

    def vanish(self) -> None:
        """Put the thread that calls this aside for good: its process died under it."""
        while True:
            self._hub.switch()

    def thread(self, work: Callable[[], Any]) -> greenlet.greenlet:
        """Return a thread of the present process, which is not begun yet."""
        made = greenlet.greenlet(work, parent=self._hub)
        self.kept.append(made)
        made.gr_context = contextvars.copy_context()
        return made

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Do what blocks in a thread, as the loop's executor would."""
        future = self.create_future()
        self.call_later(self._delay_s(), self.thread(partial(self._do, future, partial(func, *args))).switch)
        return future

    def _do(self, future: asyncio.Future[Any], work: Callable[[], Any]) -> None:
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - it is handed to whoever waits
            self.call_later(self._delay_s(), _settle, future, None, error)
        else:
            self.call_later(self._delay_s(), _settle, future, result, None)

    def worker(self) -> Worker:
        """Return the thread of a connection."""
        return Worker(self, self._delay_s)

    def shutdown_default_executor(self, *_: Any) -> Any:
        raise NotImplementedError

    def _process_events(self, event_list: Any) -> None:
        raise NotImplementedError

    def _write_to_self(self) -> None:
        """Nobody sleeps in a selector here that would have to be woken."""


class Worker:
    """The queue and the thread of an aiosqlite connection in one: takes pieces of work in order, one at a time."""

    daemon = True

    def __init__(self, loop: Loop, delay_s: Callable[[], float]) -> None:
        self._loop = loop
        self._delay_s = delay_s
        self._items: deque[Any] = deque()
        self._thread: greenlet.greenlet | None = None
        self._is_idle = True

    def bind(self, run: Callable[[Any], None]) -> None:
        """Say what the thread runs: a function that takes its work from this queue."""
        self._thread = self._loop.thread(partial(run, self))

    def start(self) -> None:
        """See ``threading.Thread``; it is begun by the first piece of work."""

    def join(self) -> None:
        """See ``threading.Thread``; it has nothing to do any more when this is called."""

    def put_nowait(self, item: Any) -> None:
        self._items.append(item)
        if self._is_idle and self._thread is not None:
            self._is_idle = False
            self._loop.call_later(self._delay_s(), self._thread.switch)

    def get(self) -> Any:
        while not self._items:
            self._is_idle = True
            self._loop._hub.switch()
        return self._items.popleft()


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _said(context: dict[str, Any]) -> str:
    error = context.get("exception")
    return f"{context.get('message', '')}: {error!r}"
