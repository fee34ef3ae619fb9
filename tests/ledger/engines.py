"""Ledgers on every engine that we ship, what makes their commits fail, and commands at random for them."""

import asyncio
import contextlib
import random

from ledger import Ledger
from ledger.commands import Context
from ledger.decider import Change, Create, Delete
from ledger.engine import OperationalError
from ledger.errors import LedgerError, StoreFailed
from ledger.events import Created
from tests.ledger.histories import ACTOR, Clock, birth, job, run

ENGINES = ("memory", "sqlite")
ME = Context(actor=ACTOR)


def opener(engine, folder):
    """Return what opens a ledger on the engine, with a clock that is data."""

    def open_ledger(clock=None, **options):
        clock = clock or Clock()
        if engine == "memory":
            return Ledger.in_memory(clock=clock, **options)
        return Ledger.open(folder / "ledger.db", clock=clock, **options)

    return open_ledger


class Full:
    """A connection whose disk is full: it reads, and refuses every row and every page of its own."""

    def __init__(self, connection):
        self._connection = connection

    def __getattr__(self, name):
        return getattr(self._connection, name)

    def execute(self, sql, *parameters):
        if sql.startswith(("INSERT", "PRAGMA user_version =")):
            raise OperationalError("database or disk is full")
        return self._connection.execute(sql, *parameters)


@contextlib.contextmanager
def failing(ledger):
    """The engine refuses every commit meanwhile, as a full disk would; the file itself does not change."""
    if hasattr(ledger.store, "before_commit"):

        def refuse():
            raise StoreFailed(reason="the disk is full")

        before, ledger.store.before_commit = ledger.store.before_commit, refuse
        yield
        ledger.store.before_commit = before
        return
    writer = ledger.store._writer
    run = writer.run
    writer.run = lambda work: run(lambda connection: work(Full(connection)))
    yield
    writer.run = run


def create(stream, status="created", **facts):
    return Create(id=stream, kind=stream[:3], facts=Created(**birth(stream[:3], **facts)), status=status)


async def log_of(ledger):
    return await ledger.store.scan(0, 100_000)


async def scramble(ledger, seed, rounds=40):
    """Commands at random, legal and illegal, some at the same time; what is refused is part of it."""
    chance = random.Random(seed)
    streams = [make(number) for make in (job, run) for number in range(6)]
    for _ in range(rounds):
        commands = []
        for stream in chance.sample(streams, 4):
            status = chance.choice(["pending", "running", "completed", "failed", "cancelled", "expired"])
            change = Change(id=stream, status=status)
            commands.append(chance.choice([create(stream), *[change] * 5, Delete(id=stream)]))
        found = await asyncio.gather(*(ledger.execute(each, ME) for each in commands), return_exceptions=True)
        assert all(not isinstance(each, Exception) or isinstance(each, LedgerError) for each in found)
