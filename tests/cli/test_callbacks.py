"""``callbacks list``, ``show`` and ``redeliver``: on the file alone, beside a running server or without one."""

import asyncio

import pytest

from ledger import Ledger
from ledger.commands import Context
from ledger.decider import Change, Create, Delete, Report
from ledger.events import Created
from ledger.times import to_text
from projections.engine import Engine
from projections.file import views_path
from server.callbacks.signing import webhook_id
from tests.cli.commandline import good, jobledger
from tests.cli.stories import ABSENT, ALICE, NOON_US, OBEYED, at
from tests.cli.test_hostile_text import obeyed, on_a_terminal
from tests.server.serving import serving

URL = "https://example.com/hook"
TRAP = "https://example.com/\u202egnp.exe?\x9b31m[bold]x[/bold]"
NAMES = ("at_once", "later", "delivered", "gone", "exhausted", "waiting", "silent", "hostile", "deleted")
IDS = {name: f"job-00000000-0000-4000-8000-0000000001{number:02}" for number, name in enumerate(NAMES)}
RUN = "run-00000000-0000-4000-8000-000000000200"


class Told:
    """A ledger to which things happen, one a second from noon on."""

    def __init__(self, ledger):
        self.ledger = ledger
        self.second = 0

    async def create(self, id, url=URL, status="completed"):
        facts = Created(user_id=ALICE, callback_url=url, agent_id="agent-1")
        kind = "run" if id.startswith("run") else "job"
        await self.do(Create(id=id, kind=kind, facts=facts, status=status))

    async def attempt(self, id, status_code, error, again_in_s=None):
        state = await self.ledger.state(id)
        due_us = None if again_in_s is None else NOON_US + (self.second + again_in_s) * 1_000_000
        given = {"owed_position": state.debt.owed_position, "duration_ns": 500_000_000, "due_us": due_us}
        await self.do(Report(id=id, status_code=status_code, error=error, **given))

    async def do(self, command):
        await self.ledger.execute(command, Context(actor=ALICE, time_us=NOON_US + self.second * 1_000_000))
        self.second += 1


async def write(path, *, views):
    async with Ledger.open(path, clock=lambda: NOON_US, name="owing.example") as ledger:
        if views == "stale":
            await fold(ledger, path)
        told = Told(ledger)
        for name in ("at_once", "later", "delivered", "gone", "exhausted", "deleted"):
            await told.create(IDS[name])
        await told.create(IDS["waiting"], status="running")
        await told.create(IDS["silent"], url=None)
        if views == "stale":
            await fold(ledger, path)
        await told.create(IDS["hostile"], url=TRAP)
        await told.create(RUN)
        await told.attempt(IDS["later"], 503, "http_status", 300)
        await told.attempt(IDS["later"], None, "timeout", 1800)
        await told.attempt(RUN, 500, "http_status", 100)
        await told.attempt(IDS["delivered"], 200, None)
        await told.attempt(IDS["hostile"], 204, None)
        await told.attempt(IDS["gone"], 410, "gone")
        await told.attempt(IDS["exhausted"], None, "connection_failed")
        await told.attempt(IDS["deleted"], 410, "gone")
        await told.do(Delete(id=IDS["deleted"]))
        if views == "fresh":
            await fold(ledger, path)


async def fold(ledger, path):
    engine = Engine(ledger, views_path(path))
    await engine.open()
    await engine.close()


@pytest.fixture(params=["fresh", "stale", "none"])
def db(request, tmp_path):
    """A ledger with a callback of every kind, and its views in every condition."""
    path = tmp_path / "ledger.db"
    asyncio.run(write(path, views=request.param))
    return path


def names_of(rows):
    known = {id: name for name, id in IDS.items()} | {RUN: "run"}
    return [known[row["id"]] for row in rows]


def listed(db, *more):
    return good("callbacks", "list", "--json", "--db", db, *more).json


def shown(db, id, *more):
    return good("callbacks", "show", "--json", "--db", db, id, *more).json


def types_of(db, id):
    return [event["type"] for event in good("log", "--json", "--db", db, id).json]


# --- list -------------------------------------------------------------------------------------------------------------

ORDER = ["at_once", "run", "later", "deleted", "exhausted", "gone", "hostile", "delivered", "waiting"]


def test_a_list_has_first_what_is_owed_by_when_it_is_due_and_then_what_is_settled_newest_first(db):
    assert names_of(listed(db)) == ORDER


@pytest.mark.parametrize(
    ("status", "names"),
    [
        ("owed", ["at_once", "run", "later"]),
        ("delivered", ["hostile", "delivered"]),
        ("abandoned", ["deleted", "exhausted", "gone"]),
        ("waiting", ["waiting"]),
    ],
)
def test_a_list_can_be_of_one_status_and_be_cut(db, status, names):
    rows = listed(db, "--status", status)
    assert names_of(rows) == names
    assert {row["status"] for row in rows} == {status}
    assert names_of(listed(db, "--status", status, "--limit", 1)) == names[:1]


def test_an_entry_tells_what_there_is_to_know_at_a_glance(db):
    rows = dict(zip(ORDER, listed(db), strict=True))
    nothing = dict.fromkeys(("abandoned_reason", "last_sent_at", "last_status_code", "last_error", "settled_at"))
    assert rows["at_once"] == nothing | {
        "id": IDS["at_once"],
        "status": "owed",
        "attempt_count": 0,
        "next_attempt_at": at(0),
        "url": URL,
    }
    assert rows["later"] == nothing | {
        "id": IDS["later"],
        "status": "owed",
        "attempt_count": 2,
        "last_sent_at": at(10.5),
        "last_error": "timeout",
        "next_attempt_at": at(1811),
        "url": URL,
    }
    assert rows["gone"] == nothing | {
        "id": IDS["gone"],
        "status": "abandoned",
        "abandoned_reason": "gone",
        "attempt_count": 1,
        "last_sent_at": at(14.5),
        "last_status_code": 410,
        "last_error": "gone",
        "next_attempt_at": None,
        "settled_at": at(15),
        "url": URL,
    }


def test_a_list_is_readable_without_json(db):
    header, *lines = good("callbacks", "list", "--db", db).out.splitlines()
    assert header.split() == ["id", "status", "attempts", "last", "answer", "next", "or", "settled", "url"]
    assert len(lines) == len(ORDER)
    assert lines[0].split() == [IDS["at_once"], "owed", "0", at(0), URL]
    assert lines[2].split() == [IDS["later"], "owed", "2", "timeout", at(1811), URL]
    assert lines[5].split() == [IDS["gone"], "abandoned", "(gone)", "1", "410", "gone", at(15), URL]


def test_a_list_that_is_cut_says_so_beside_it(db):
    cut = good("callbacks", "list", "--db", db, "--limit", 2)
    assert len(cut.out.splitlines()) == 3
    assert "more than 2" in cut.err
    assert good("callbacks", "list", "--db", db).err == ""


def test_hostile_text_is_shown_and_not_obeyed(db):
    for command in (["list"], ["show", IDS["hostile"]]):
        told = on_a_terminal("callbacks", *command, "--db", db)
        assert obeyed(told) == set()
        assert obeyed(good("callbacks", *command, "--db", db).out) & OBEYED == set()
        assert "[bold]x[/bold]" in told.replace("\n", "").replace(" ", "")
    assert shown(db, IDS["hostile"])["url"] == TRAP


@pytest.mark.parametrize("command", [["list"], ["show", IDS["later"]]])
def test_what_reads_writes_to_no_file(db, command):
    files = [path for path in (db, views_path(db)) if path.exists()]
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in files]
    good("callbacks", *command, "--db", db)
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in files] == before
    assert views_path(db).exists() == (views_path(db) in files)


# --- show -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", [IDS["later"], IDS["gone"], IDS["at_once"], IDS["waiting"], RUN])
async def test_show_gives_the_same_as_the_server(db, id):
    async with serving(db) as service:
        admin = await service.admin()
        home = "/v1/runs" if id == RUN else "/v1/jobs"
        served = await admin.get(f"{home}/{id}/callback")
        then = await admin.get(f"{home}/{id}/callback", params={"as_of": at(11)})
    assert await asyncio.to_thread(shown, db, id) == served.json
    assert await asyncio.to_thread(shown, db, id, "--at", at(11)) == then.json


def test_show_at_a_point_gives_what_was_then(db):
    events = good("log", "--json", "--db", db, IDS["later"]).json
    for point in (at(10), events[-2]["position"]):
        found = shown(db, IDS["later"], "--at", point)
        assert (found["attempt_count"], found["next_attempt_at"]) == (1, at(310))


def test_show_is_readable_without_json(db):
    out = good("callbacks", "show", "--db", db, IDS["later"]).out
    lines = [line.split() for line in out.splitlines()]
    assert ["status", "owed"] in lines
    assert ["webhook_id", webhook_id(IDS["later"], 4)] in lines
    assert ["delivered_at", "null"] in lines
    assert lines[-2] == ["1", at(9.5), "503", "http_status", "500", "ms", at(310)]
    assert lines[-1] == ["2", at(10.5), "none", "timeout", "500", "ms", at(1811)]


@pytest.mark.parametrize("id", [IDS["silent"], IDS["deleted"], ABSENT, "job-1", "token-1"])
def test_show_of_what_has_no_callback_is_one_line(db, id):
    done = jobledger("callbacks", "show", "--db", db, id)
    assert (done.code, done.raw, len(done.err.splitlines())) == (2, b"", 1)
    assert id in done.err


# --- redeliver --------------------------------------------------------------------------------------------------------


def test_callbacks_are_owed_anew_by_their_ids(db):
    done = good("callbacks", "redeliver", "--db", db, "--reason", "it was down", IDS["gone"], IDS["later"], IDS["gone"])
    assert done.out.startswith("2 owed anew. A running server sends them now; without one ")
    assert "`jobledger serve`" in done.out
    for name in ("gone", "later"):
        found = shown(db, IDS[name])
        assert (found["status"], found["next_attempt_at"]) == ("owed", found["owed_since"])
        assert [each["reason"] for each in found["requeued"]] == ["it was down"]
    assert "it was down" in good("callbacks", "show", "--db", db, IDS["gone"]).out
    assert names_of(listed(db, "--status", "owed"))[:1] == ["at_once"]
    assert {"gone", "later"} <= set(names_of(listed(db, "--status", "owed")))


def test_what_is_owed_at_once_is_owed_anew_too_as_an_attempt_may_be_under_way(db):
    done = good("callbacks", "redeliver", "--db", db, IDS["at_once"], IDS["delivered"])
    assert done.out.startswith("2 owed anew. ")
    assert good("callbacks", "redeliver", "--json", "--db", db, IDS["at_once"]).json == {"requeued": 1}
    assert types_of(db, IDS["at_once"])[-1] == "callback.requeued"


@pytest.mark.parametrize("name", ["waiting", "silent", "deleted"])
def test_where_one_cannot_be_owed_none_is(db, name):
    done = jobledger("callbacks", "redeliver", "--db", db, IDS["gone"], IDS[name], IDS["delivered"])
    assert (done.code, done.raw, len(done.err.splitlines())) == (2, b"", 1)
    assert IDS[name] in done.err
    assert types_of(db, IDS["gone"])[-1] == "callback.abandoned"
    assert types_of(db, IDS["delivered"])[-1] == "callback.delivered"


@pytest.mark.parametrize(
    ("since", "names"),
    [
        (None, ["gone", "exhausted"]),
        (at(15), ["gone", "exhausted"]),
        (at(15.000001), ["exhausted"]),
        (at(17), []),
    ],
)
def test_after_an_outage_all_that_was_given_up_is_owed_anew(db, since, names):
    more = [] if since is None else ["--since", since]
    done = good("callbacks", "redeliver", "--json", "--db", db, "--abandoned", *more)
    assert done.json == {"requeued": len(names)}
    for name in ("gone", "exhausted", "deleted", "delivered", "later"):
        assert (types_of(db, IDS[name])[-1] == "callback.requeued") == (name in names), name
    assert good("callbacks", "redeliver", "--json", "--db", db, "--abandoned").json["requeued"] == 2 - len(names)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--abandoned", IDS["gone"]],
        ["--since", "2026-11-22", IDS["gone"]],
        ["--abandoned", "--since", "yesterday"],
        ["--reason", "", IDS["gone"]],
        ["job-1"],
    ],
)
def test_wrong_usage_is_one_line_and_changes_nothing(db, arguments):
    done = jobledger("callbacks", "redeliver", "--db", db, *arguments)
    assert (done.code, done.raw, len(done.err.splitlines())) == (2, b"", 1)
    assert types_of(db, IDS["gone"])[-1] == "callback.abandoned"


async def test_a_running_server_learns_of_it(db):
    async with serving(db) as service:
        admin = await service.admin()
        await asyncio.to_thread(good, "callbacks", "redeliver", "--db", db, IDS["gone"])
        size = {"Ledger-Position": str((await service.app.ledger.store.head()).size)}
        assert (await admin.get(f"/v1/jobs/{IDS['gone']}/callback", headers=size)).json["status"] == "owed"


# --- imports ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path):
    """Import the whole of a ledger into a new one; return its file."""

    def load(db, *more):
        good("export", "--db", db, "--out", tmp_path / "all.jsonl")
        good("import", "--db", tmp_path / "copy.db", *more, tmp_path / "all.jsonl")
        return tmp_path / "copy.db"

    return load


def test_what_an_import_brings_is_given_up_unless_it_is_asked_for(db, copy):
    new = copy(db)
    rows = listed(new)
    assert "owed" not in {row["status"] for row in rows}
    reasons = {name: row["abandoned_reason"] for name, row in zip(names_of(rows), rows, strict=True)}
    assert reasons == {
        **dict.fromkeys(("at_once", "later", "run"), "imported"),
        "gone": "gone",
        "deleted": "gone",
        "exhausted": "exhausted",
        **dict.fromkeys(("delivered", "hostile", "waiting")),
    }
    found = shown(new, IDS["at_once"])
    assert (found["status"], found["abandoned_reason"], found["next_attempt_at"]) == ("abandoned", "imported", None)


def test_with_callbacks_an_import_brings_what_is_owed(db, copy):
    assert listed(copy(db, "--callbacks")) == listed(db)


def test_imports_are_owed_anew_only_by_their_ids(db, copy):
    new = copy(db)
    assert good("callbacks", "redeliver", "--json", "--db", new, "--abandoned").json == {"requeued": 2}
    assert types_of(new, IDS["at_once"])[-1] == "job.completed"
    assert good("callbacks", "redeliver", "--json", "--db", new, IDS["at_once"], IDS["later"]).json == {"requeued": 2}
    for name in ("at_once", "later"):
        assert types_of(new, IDS[name])[-1] == "callback.requeued"
        assert shown(new, IDS[name])["status"] == "owed"


def test_what_ends_here_after_an_import_is_owed(db, copy):
    new = copy(db)

    async def end():
        async with Ledger.open(new, clock=lambda: NOON_US) as ledger:
            await ledger.execute(Change(id=IDS["waiting"], status="completed"))

    asyncio.run(end())
    assert names_of(listed(new, "--status", "owed")) == ["waiting"]
    assert shown(new, IDS["waiting"])["owed_since"] == to_text(NOON_US)
