"""A dispatcher on a ledger of its own, with a sender that answers as it is told, and a clock that is data."""

import asyncio
import random
from contextlib import AsyncExitStack, asynccontextmanager

from prometheus_client import CollectorRegistry

from ledger import Ledger
from ledger.commands import Context, single
from ledger.decider import Change, Create
from ledger.events import Changed, Created
from projections.engine import Engine
from projections.file import views_path
from projections.views import Views
from server.callbacks.delivery import Delivery
from server.callbacks.dispatcher import Dispatcher
from server.callbacks.lanes import Lanes
from server.callbacks.metrics import CallbackMetrics
from server.callbacks.schedule import Schedule
from server.callbacks.sender import Outcome
from server.callbacks.signing import Signer
from tests.ledger.histories import ACTOR, START_US, Clock
from tests.server.callbacks.signed import secret

URL = "https://receiver.example/hook"
GOOD = Outcome(200, None, 1_000_000)
FAILED = Outcome(500, "http_status", 1_000_000)
GONE = Outcome(410, "gone", 1_000_000)
WAITS_S = (10.0, 100.0)


class Sent:
    """A request as the receiver would have it."""

    def __init__(self, url, headers, body):
        self.url, self.headers, self.body = url, dict(headers), body

    @property
    def id(self):
        return self.headers["webhook-id"]


class Answers:
    """A sender: gives the outcomes in turn, the last one for ever; None: the answer does not come."""

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes or (GOOD,))
        self.sent = []
        self.arrived = asyncio.Event()
        self.hold = asyncio.Event()
        """Set: answers come at once."""
        self.hold.set()

    async def post(self, url, headers, body):
        self.sent.append(Sent(url, headers, body))
        self.arrived.set()
        await self.hold.wait()
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if outcome is None:
            await asyncio.Event().wait()
        return outcome


class Late(Clock):
    """A clock that can be moved on."""

    def advance(self, seconds):
        self.now += int(seconds * 1e6)


class Rig:
    """One server's worth of callbacks on a ledger file."""

    def __init__(self, ledger, engine, views, dispatcher, sender, registry):
        self.ledger, self.engine, self.views = ledger, engine, views
        self.dispatcher, self.sender, self.registry = dispatcher, sender, registry

    @property
    def sent(self):
        return self.sender.sent

    async def beat(self):
        """One beat, and all that it started, up to the views."""
        wait_s = await self.start()
        await self.settle()
        return wait_s

    async def start(self):
        """One beat, as if it were time for a search and for those that fail; what it started goes on."""
        await self.engine.wait_for(self.ledger.size)
        self.dispatcher._search_at_s = 0.0
        wait_s = await self.dispatcher.beat()
        self.dispatcher._lanes._allowed_at_s = 0.0
        self.dispatcher._start()
        return wait_s

    async def settle(self):
        while self.dispatcher._tasks:
            await asyncio.wait(self.dispatcher._tasks)
        await self.engine.wait_for(self.ledger.size)

    async def begin(self, id, kind="job", url=URL, **facts):
        more = {"agent_id": "agent-1"} if kind == "run" else {}
        created = Created(user_id=ACTOR, callback_url=url, **more, **facts)
        await self.ledger.execute(Create(id=id, kind=kind, facts=created, status="running"), Context(actor=ACTOR))

    async def end(self, id, kind="job", status="completed", url=URL, **facts):
        """Record a resource up to its end."""
        await self.begin(id, kind, url, **facts)
        await self.ledger.execute(Change(id=id, status=status, facts=Changed()), Context(actor=ACTOR))

    async def does(self, command):
        return await self.ledger.execute_plan(single(command), Context(actor=ACTOR))

    async def types(self, id):
        """The callback events of a stream, without their prefix."""
        events = await self.ledger.read(id)
        return [event.type.partition(".")[2] for event in events if event.type.startswith("callback.")]

    async def debt(self, id):
        return (await self.ledger.state(id)).debt

    def counted(self, name, **labels):
        return self.registry.get_sample_value(name, labels)


@asynccontextmanager
async def rig(path, sender=None, clock=None, schedule=None, lanes=None):
    """A dispatcher on the ledger at ``path``; it beats when it is told to."""
    sender = sender or Answers()
    registry = CollectorRegistry()
    async with AsyncExitStack() as stack:
        ledger = await stack.enter_async_context(Ledger.open(path, clock=clock or Late(start=START_US)))
        engine = Engine(ledger, views_path(path))
        await engine.open()
        views = Views(engine.path, ledger.store.streams)
        await views.open()
        engine.start()
        delivery = Delivery(
            ledger,
            sender,
            Signer.parse(secret(1), "test"),
            schedule or Schedule(WAITS_S),
            CallbackMetrics(registry),
            random.Random(7),
        )
        dispatcher = Dispatcher(ledger, engine, views, delivery, lanes or Lanes())

        def changed(ids):
            views.forget(ids)
            dispatcher.wake(ids.get("callbacks", ()))

        engine.on_changed = changed
        stack.push_async_callback(views.close)
        stack.push_async_callback(engine.close)
        stack.push_async_callback(dispatcher.close, 0.0)
        yield Rig(ledger, engine, views, dispatcher, sender, registry)
