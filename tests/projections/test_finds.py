"""Full-text search finds what a brute-force search finds, over views and over the files alone, and no more of it."""

import asyncio
import random
import re
import uuid

import pytest

from ledger import Ledger
from ledger import engine as sqlite
from ledger import state as states
from ledger.errors import InvalidInput
from ledger.events import ERASURES
from ledger.ids import SYSTEM_USER
from projections import finds, overlay
from projections.batches import BATCHES
from projections.documents import WHATS, document
from projections.engine import Engine
from projections.finds import Asked, find
from projections.jobs import JOBS
from projections.query import Filters
from projections.runs import RUNS
from projections.texts import TEXTS
from projections.tools import TOOLS, called_by
from projections.views import Views
from tests.ledger.leftovers import holds
from tests.projections.random_histories import History
from tests.projections.views_file import connected

ALL = 1_000_000
USERS = [f"user-00000000-0000-4000-8000-00000000000{number}" for number in range(2)]
AGENTS = ["agent-1", "agent-2"]
COMMON, RARE = ["the", "run", "of", "error"], ["zebra", "yak", "xerus", "get", "user", "details"]


class Corpus:
    """Jobs, runs and batches that say words at random, interleaved, some of them deleted or erased."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.time_us = 1_700_000_000_000_000

    async def tell(self, ledger, lives):
        open_lives = [self._life() for _ in range(lives)]
        while open_lives:
            life = self.chance.choice(open_lives)
            step = next(life, None)
            if step is None:
                open_lives.remove(life)
                continue
            self.time_us += self.chance.randint(-1_000_000, 10_000_000)
            stream, type, data = step
            if type == "erased":
                await ledger.erase(stream, "asked for")
            else:
                await ledger.append(stream, type, data, actor=SYSTEM_USER, time_us=self.time_us)

    def words(self):
        return " ".join(self.chance.choices(COMMON * 4 + RARE, k=self.chance.randint(1, 8)))

    def _life(self):
        kind = self.chance.choice(["run", "run", "job", "batch"])
        stream = f"{'run' if kind == 'run' else 'job'}-{uuid.UUID(int=self.chance.getrandbits(128), version=4)}"
        born = {"user_id": self.chance.choice(USERS), "metadata": {"note": self.words(), "n": 1}}
        yield stream, f"{kind}.created", {**born, "agent_id": self.chance.choice(AGENTS)}
        for _ in range(self.chance.randint(0, 4) if kind == "run" else 0):
            yield stream, "run.message", {"message": self._message()}
        if kind != "run":
            yield stream, f"{kind}.pending", {}
        yield stream, f"{kind}.running", {}
        if self.chance.random() < 0.7:
            yield stream, f"{kind}.failed", {"stop_reason": "error", "error": {"type": "E", "message": self.words()}}
        if self.chance.random() < 0.2:
            yield stream, self.chance.choice([f"{kind}.deleted", "erased"]), {}

    def _message(self):
        message = {"id": f"message-{uuid.UUID(int=self.chance.getrandbits(128), version=4)}"}
        if self.chance.random() < 0.6:
            return {**message, "message_type": "assistant_message", "content": self.words()}
        call = {"name": self.chance.choice(["get_user_details", "yak"]), "arguments": self.words(), "tool_call_id": "c"}
        return {**message, "message_type": "tool_call_message", "tool_call": call}


def stands(part, words, begins):
    """Whether a part of a text is these words, of which the last one may go on."""
    if begins and part[:-1] == words[:-1] and len(part) == len(words):
        return part[-1].startswith(words[-1])
    return part == words


class Wanted:
    """A random query: as it is typed, and as brute force understands it."""

    def __init__(self, chance):
        def term():
            words = chance.choices(COMMON + RARE, k=chance.choice([1, 1, 1, 2]))
            begins = chance.random() < 0.2
            return words, begins

        self.groups = [[term() for _ in range(chance.choice([1, 1, 2]))] for _ in range(chance.randint(1, 2))]
        self.without = [term() for _ in range(chance.choice([0, 0, 1]))]

    def __str__(self):
        def typed(term):
            words, begins = term
            return f'"{" ".join(words)}"{"*" if begins else ""}' if len(words) > 1 else words[0] + "*" * begins

        groups = [" OR ".join(map(typed, group)) for group in self.groups]
        return " ".join([*groups, *(f"-{typed(term)}" for term in self.without)])

    def fits(self, texts):
        tokens = [re.findall(r"[a-z0-9]+", text.lower()) for text in texts if text]

        def there(term):
            words, begins = term
            return any(
                row[at : at + len(words) - 1] == words[:-1]
                and len(row) >= at + len(words)
                and (
                    row[at + len(words) - 1].startswith(words[-1]) if begins else row[at + len(words) - 1] == words[-1]
                )
                for row in tokens
                for at in range(len(row))
            )

        return all(any(map(there, group)) for group in self.groups) and not any(map(there, self.without))


def asked_at_random(chance, log):
    times = sorted(event.time for event in log)
    status, agent = chance.choice([None, None, ("failed",), ("running", "created")]), chance.choice([None, *AGENTS])
    return Wanted(chance), {
        "whats": chance.choice([WHATS, WHATS, ("message",), ("error", "tool"), ("metadata",)]),
        "kinds": chance.choice([("job", "run", "batch"), ("run",), ("job", "batch")]),
        "filters": Filters(
            user_id=chance.choice([None, *USERS]),
            statuses=status,
            agent_ids=None if agent is None else (agent,),
            stop_reason=chance.choice([None, None, "error"]),
            tools=chance.choice([None, None, None, ("yak",)]),
            id=chance.choice([None] * 5 + [chance.choice(log).stream]),
        ),
        "since_us": chance.choice([None, None, chance.choice(times)]),
        "until_us": chance.choice([None, None, chance.choice(times)]),
    }


def expected(log, wanted, asked):
    """Positions, newest first."""
    streams = {}
    for event in log:
        streams.setdefault(event.stream, []).append(event)
    passing = {id for id, events in streams.items() if passes(events, asked)}
    return [
        event.position
        for event in reversed(log)
        if event.stream in passing
        and (asked["since_us"] is None or event.time >= asked["since_us"])
        and (asked["until_us"] is None or event.time <= asked["until_us"])
        and (told := document(event)) is not None
        and wanted.fits([getattr(told, what) for what in asked["whats"]])
    ]


def passes(events, asked):
    state, filters = states.fold(events), asked["filters"]
    if state is None or state.deleted_us is not None or any(event.type in ERASURES for event in events):
        return False
    tools = {tool for event in events if event.type == "run.message" for tool in called_by(event)}
    return (
        state.kind in asked["kinds"]
        and filters.user_id in (None, state.user_id)
        and (filters.statuses is None or state.status in filters.statuses)
        and (filters.agent_ids is None or state.agent_id in filters.agent_ids)
        and filters.stop_reason in (None, state.stop_reason)
        and (filters.tools is None or not tools.isdisjoint(filters.tools))
        and filters.id in (None, state.id)
    )


async def offline(ledger, path, asked):
    async def question(at_end):
        return await find(await at_end.reader((JOBS, RUNS, BATCHES, TOOLS, TEXTS)), asked)

    return await overlay.ask(ledger.store, path, "texts", question)


async def caught_up(ledger, path):
    engine = Engine(ledger, path)
    await engine.open()
    await engine.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.views.db"


@pytest.fixture
async def ledger(tmp_path):
    async with Ledger.open(tmp_path / "ledger.db") as opened:
        yield opened


# --- what is found ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("few", [0, 3, 1000])
async def test_what_is_found_is_what_brute_force_finds(ledger, path, few, monkeypatch):
    # given: views of a part of the log, and limits so small that every way to look is gone
    monkeypatch.setattr(finds, "PART_MIN", 2)
    monkeypatch.setattr(finds, "PART_MAX", 20)
    monkeypatch.setattr(finds, "WALK", 5)
    monkeypatch.setattr(finds, "FEW", few)
    corpus = Corpus(few)
    await corpus.tell(ledger, 25)
    await caught_up(ledger, path)
    views = Views(path, ledger.store.streams)
    await views.open()
    await corpus.tell(ledger, 25)
    live = Engine(ledger, path.with_name("live.db"))
    log = await ledger.store.scan(0, ALL)
    await live.open()
    now = Views(live.path, ledger.store.streams)
    await now.open()
    sizes = set()
    for _ in range(60):
        # when
        wanted, asked = asked_at_random(corpus.chance, log)
        limit = corpus.chance.choice([1, 5, 200])
        everywhere = [
            await find(now, Asked(query=str(wanted), limit=limit, **asked)),
            await offline(ledger, path, Asked(query=str(wanted), limit=limit, **asked)),
            await offline(ledger, path.with_name("none.db"), Asked(query=str(wanted), limit=limit, **asked)),
        ]
        # then
        positions = expected(log, wanted, asked)
        for page in everywhere:
            assert [each.position for each in page.found] == positions[:limit], (str(wanted), asked)
            assert page.next_before == (positions[limit - 1] if len(positions) > limit else None)
            assert page == everywhere[0]
        sizes.add(len(positions))
    assert len(sizes) > 5
    await now.close()
    await views.close()
    await live.close()


async def test_pages_to_the_end_have_every_find_once(ledger, path):
    await Corpus(7).tell(ledger, 30)
    whole = await offline(ledger, path, Asked(query="the OR error", limit=10_000))
    page = await offline(ledger, path, Asked(query="the OR error", limit=7))
    pages = page.found
    while page.next_before:
        page = await offline(ledger, path, Asked(query="the OR error", limit=7, before=page.next_before))
        pages += page.found
    assert pages == whole.found
    assert len(pages) > 30


async def test_a_find_tells_what_it_is_and_shows_the_words(ledger, path):
    run = f"run-{uuid.UUID(int=1, version=4)}"
    call = {"name": "get_user_details", "arguments": '{"user": "mia"}', "tool_call_id": "c"}
    message = {"message_type": "tool_call_message", "id": f"message-{uuid.UUID(int=2, version=4)}", "tool_call": call}
    await ledger.append(run, "run.created", {"user_id": USERS[0], "agent_id": "agent-1"}, actor=USERS[0], time_us=5)
    await ledger.append(run, "run.message", {"message": message}, actor=USERS[0], time_us=6)
    (found,) = (await offline(ledger, path, Asked(query="user mia"))).found
    assert (found.position, found.stream, found.version, found.kind) == (2, run, 2, "run")
    assert (found.what, found.time) == (["message", "tool"], "1970-01-01T00:00:00.000006Z")
    assert (found.message_id, found.message_type, found.step_id) == (message["id"], "tool_call_message", None)
    assert (found.agent_id, found.status, found.stop_reason) == ("agent-1", "created", None)
    assert [(part.text, part.hit) for part in found.snippet] == [
        ('{"', False), ("user", True), ('": "', False), ("mia", True), ('"}', False),
    ]  # fmt: skip


async def test_a_query_without_a_word_is_refused(ledger, path):
    with pytest.raises(InvalidInput, match="no word"):
        await offline(ledger, path, Asked(query="..."))


# --- hostile texts ----------------------------------------------------------------------------------------------------

HOSTILE = [
    "needle \0 after", "needle\x1b[2J\x07\x9b31m", "\u202eneedle\u2066 \u200fשלום needle",
    "needle\ufffd\uffff", "x" * 100_000 + " needle", "' OR 1=1; -- needle", "needle\u2028<script>alert(1)</script>",
]  # fmt: skip


async def test_hostile_texts_are_found_and_shown_as_they_are(ledger, path):
    run = f"run-{uuid.UUID(int=1, version=4)}"
    texts = [*HOSTILE, "haystack " * 600_000 + "needle " + "haystack " * 1000]
    deep = "needle"
    for _ in range(30):
        deep = {"d": [deep]}
    await ledger.append(run, "run.created", {"user_id": USERS[0], "agent_id": "a"}, actor=USERS[0])
    await ledger.append(run, "run.updated", {"metadata": {"deep": deep}}, actor=USERS[0])
    for number, text in enumerate(texts):
        message = {"message_type": "user_message", "id": f"message-{uuid.UUID(int=number, version=4)}", "content": text}
        await ledger.append(run, "run.message", {"message": message}, actor=USERS[0])
    page = await offline(ledger, path, Asked(query="needle"))
    assert [each.position for each in page.found] == list(range(len(texts) + 2, 1, -1))
    for each in page.found:
        assert "needle" in [part.text for part in each.snippet if part.hit]
        assert sum(len(part.text) for part in each.snippet) < 300


# --- the index --------------------------------------------------------------------------------------------------------


def words_in(path):
    """Every word of the index with where it stands, as FTS5 tells it."""
    with connected(path) as connection:
        connection.execute("CREATE VIRTUAL TABLE temp.seen USING fts5vocab(main, texts_words, instance)")
        return sorted(connection.execute("SELECT term, doc, col, offset FROM temp.seen").fetchall())


@pytest.mark.parametrize("seed", [1, 2])
async def test_the_index_is_the_same_live_and_rebuilt_and_has_just_the_words_of_the_texts(ledger, path, seed):
    # given: an engine that saw all of it live, erasures too
    live = Engine(ledger, path)
    await live.open()
    history, corpus = History(seed), Corpus(seed)
    for _ in range(4):
        await history.extend(ledger, 100)
        await corpus.tell(ledger, 6)
        while await live.beat():
            pass
    # then: it has what a rebuild has
    seen = words_in(path)
    await live.rebuild()
    assert words_in(path) == seen
    assert len(seen) > 300
    await live.close()
    # and: what a tokenizer makes of the texts
    with connected(path) as connection:
        rows = connection.execute(f"SELECT position, {', '.join(WHATS)} FROM texts").fetchall()
    fresh = sqlite.library.connect(":memory:")
    fresh.execute(f"CREATE VIRTUAL TABLE w USING fts5({', '.join(WHATS)}, tokenize = 'unicode61 remove_diacritics 2')")
    fresh.executemany("INSERT INTO w (rowid, message, error, tool, metadata) VALUES (?, ?, ?, ?, ?)", rows)
    fresh.execute("CREATE VIRTUAL TABLE seen USING fts5vocab(w, instance)")
    assert sorted(fresh.execute("SELECT term, doc, col, offset FROM seen").fetchall()) == seen
    fresh.close()


async def test_of_erased_texts_no_word_is_left_in_any_file(ledger, path, tmp_path):
    # given: words that stand in one run alone, in many commits, so that the index has them in many places
    engine = Engine(ledger, path)
    await engine.open()
    run, other = (f"run-{uuid.UUID(int=number, version=4)}" for number in (1, 2))
    for id in (run, other):
        await ledger.append(id, "run.created", {"user_id": USERS[0], "agent_id": "a"}, actor=USERS[0])
    secrets = [f"Secretword{letter}{letter}" for letter in "abcdefghijklmnopqrst"]
    for number, secret in enumerate(secrets):
        for id, text in ((run, f"it said {secret} twice: {secret}"), (other, f"harmless {number}")):
            message = {"message_type": "user_message", "id": f"message-{uuid.UUID(int=number, version=4)}"}
            await ledger.append(id, "run.message", {"message": {**message, "content": text}}, actor=USERS[0])
        await engine.beat()
    await ledger.append(
        run, "run.failed", {"error": {"message": secrets[0]}, "metadata": {"a": secrets[1]}}, actor=USERS[0]
    )
    await engine.beat()
    assert "ledger.views.db" in " ".join(holds(tmp_path, "secretword"))
    # when
    await ledger.erase(run, "asked for")
    await engine.beat()
    assert (await offline(ledger, path, Asked(query="secretword*"))).found == []
    assert await engine.scrub()
    # then: not even the beginnings that an index keeps of its words
    for word in ("secretword", "Secretword", "ecretword", "cretword", "twice"):
        assert [name for name in holds(tmp_path, word) if "views" in name] == []
    assert len((await offline(ledger, path, Asked(query="harmless"))).found) == len(secrets)
    await engine.close()


async def test_searches_go_on_while_views_are_rebuilt_and_texts_erased(ledger, path):
    corpus = Corpus(3)
    await corpus.tell(ledger, 20)
    engine = Engine(ledger, path)
    await engine.open()
    views = Views(path, ledger.store.streams)
    await views.open()
    before = await find(views, Asked(query="the", limit=500))

    async def rebuild():
        for _ in range(3):
            await engine.rebuild()

    task = asyncio.create_task(rebuild())
    rounds = 0
    while not task.done():
        assert await find(views, Asked(query="the", limit=500)) == before
        rounds += 1
    await task
    assert rounds > 3
    first = before.found[0].stream
    await ledger.erase(first, "asked for")
    await engine.beat()
    after = await find(views, Asked(query="the", limit=500))
    assert after.found == [each for each in before.found if each.stream != first]
    await views.close()
    await engine.close()
