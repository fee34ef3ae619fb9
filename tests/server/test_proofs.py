"""Evidence over HTTP: checkpoints and proofs that others can check, and a server that signs by the clock."""

import asyncio
import json

import pytest

from ledger import engine, keys, verdicts
from ledger.checkpoint import parse
from ledger.soundness import verify_file
from server.checkpoints import INTERVAL_S, Checkpoints
from tests.ledger import checker
from tests.ledger.histories import leaf_hash
from tests.server.serving import MIDNIGHT_US, serving

HOME = "/v1/ledger"


@pytest.fixture
def app(service):
    return service.app


async def grown(user, count=40):
    for _ in range(count):
        await user.create("job", status="running")


def vkey(app):
    return str(keys.published(app.config.db)[-1])


async def test_the_checkpoint_is_a_signed_note_of_the_log_as_it_is(admin, user, app):
    await grown(user)
    answer = await user.get(f"{HOME}/checkpoint")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
    state = (await admin.get(HOME)).json
    root = bytes.fromhex(state["root"])
    assert checker.checkpoint_of(answer.body.decode(), vkey(app)) == (state["name"], state["head"], root)
    # The same log, the same note; and it is told where the ledger's state is
    assert (await user.get(f"{HOME}/checkpoint")).body == answer.body
    told = (await admin.get(HOME)).json["checkpoint"]
    assert (told["size"], told["key"]) == (state["head"], vkey(app))


async def test_each_event_of_a_history_is_shown_to_be_in_the_tree_of_a_checkpoint(admin, user, app):
    await grown(user)
    note = (await user.get(f"{HOME}/checkpoint")).body.decode()
    _, size, root = checker.checkpoint_of(note, vkey(app))
    await grown(user, 3)  # the log goes on
    for event in (await app.ledger.store.scan(0, size))[::7]:
        proof = (await user.get(f"{HOME}/proof/inclusion?position={event.position}&size={size}")).json
        assert (proof["position"], proof["size"], proof["root"]) == (event.position, size, root.hex())
        path = [bytes.fromhex(each) for each in proof["path"]]
        assert bytes.fromhex(proof["leaf_hash"]) == leaf_hash(event)
        assert checker.inclusion_holds(event.position - 1, size, leaf_hash(event), path, root)


async def test_a_later_checkpoint_is_shown_to_go_on_from_an_earlier_one(user, app):
    await grown(user)
    _, first, before = checker.checkpoint_of((await user.get(f"{HOME}/checkpoint")).body.decode(), vkey(app))
    await grown(user)
    _, second, after = checker.checkpoint_of((await user.get(f"{HOME}/checkpoint")).body.decode(), vkey(app))
    for query in (f"from={first}&to={second}", f"from={first}"):
        proof = (await user.get(f"{HOME}/proof/consistency?{query}")).json
        assert (proof["from"], proof["to"]) == (first, second)
        assert (proof["root_from"], proof["root_to"]) == (before.hex(), after.hex())
        path = [bytes.fromhex(each) for each in proof["path"]]
        assert checker.consistency_holds(first, second, before, after, path)


@pytest.mark.parametrize(
    ("query", "where", "what"),
    [
        ("inclusion", "position", "is missing"),
        ("inclusion?position=0", "position", "is not an integer from 1"),
        ("inclusion?position=x", "position", "is not an integer from 1"),
        ("inclusion?position=999", "position", "there is no event 999 among the first"),
        ("inclusion?position=2&size=1", "position", "there is no event 2 among the first 1"),
        ("inclusion?position=1&size=999", "size", "so no tree of 999"),
        ("inclusion?position=1&position=2", "position", "more than once"),
        ("inclusion?position=1&at=2", "at", "is not a parameter"),
        ("consistency", "from", "is missing"),
        ("consistency?from=-1", "from", "is not an integer from 0"),
        ("consistency?from=999", "from", "is not within the first"),
        ("consistency?from=2&to=1", "from", "is not within the first 1 events"),
        ("consistency?from=1&to=99999999999999999999", "to", "is not an integer from 0"),
        ("consistency?from=0&to=999", "to", "so no tree of 999"),
    ],
)
async def test_a_proof_that_cannot_be_is_refused_with_what_is_wrong(user, query, where, what):
    await user.create("job")
    answer = await user.get(f"{HOME}/proof/{query}")
    assert answer.status == 422, answer.body
    (fault,) = answer.error["details"]
    assert fault["where"] == where
    assert what in fault["what"]


async def test_evidence_is_for_those_with_a_token(app, user):
    for path in ("checkpoint", "proof/inclusion?position=1", "proof/consistency?from=1"):
        answer = await user.get(f"{HOME}/{path}", headers={"Authorization": ""})
        assert answer.status == 401


def run_sql(app, *statements):
    """Change the file of a running server past its triggers."""
    connection = engine.connect(app.config.db, read_only=False)
    for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("statement", "path"),
    [
        ("UPDATE events SET leaf = zeroblob(32) WHERE position = 2", "proof/inclusion?position=1"),
        ("UPDATE events SET leaf = zeroblob(32) WHERE position = 2", "proof/consistency?from=3"),
        ("UPDATE events SET leaf = zeroblob(32) WHERE position = 2", "checkpoint"),
        ("UPDATE head SET frontier = x'00'", "proof/inclusion?position=1"),
        ("UPDATE head SET frontier = x'00'", "checkpoint"),
        ("INSERT INTO checkpoints VALUES (1, 1, 'nonsense')", "checkpoint"),
    ],
)
async def test_a_damaged_file_gives_no_proof_and_no_signature_and_is_logged(app, user, log_lines, statement, path):
    await grown(user, 3)
    run_sql(app, statement)
    answer = await user.get(f"{HOME}/{path}")
    assert (answer.status, answer.error["type"]) == (500, "internal_error"), answer.body
    lines = [json.loads(line) for line in log_lines.getvalue().splitlines()]
    (line,) = [line for line in lines if line["event"] == "request.failed"]
    assert line["request_id"] == answer.headers["X-Request-Id"]
    assert "is damaged" in line["exception"]


# --- by the clock -----------------------------------------------------------------------------------------------------


async def test_a_beat_signs_a_log_that_grew_and_no_other(app, user):
    await grown(user, 2)
    checkpoints = Checkpoints(app.ledger)
    assert await checkpoints.beat() == INTERVAL_S
    first = await app.ledger.store.last_checkpoint()
    assert first.size == app.ledger.size
    await checkpoints.beat()
    assert await app.ledger.store.last_checkpoint() == first
    await grown(user, 1)
    await checkpoints.beat()
    assert (await app.ledger.store.last_checkpoint()).size == app.ledger.size > first.size


async def test_a_key_that_cannot_be_read_ends_no_server(app, user):
    path = keys.key_path(app.config.db)
    path.write_text("nonsense\n")
    path.chmod(0o600)
    await grown(user, 1)
    assert await Checkpoints(app.ledger).beat() == INTERVAL_S
    answer = await user.get(f"{HOME}/checkpoint")
    assert (answer.status, answer.error["type"]) == (500, "internal_error")
    assert (await user.get("/v1/jobs")).status == 200


async def test_a_clean_stop_signs_what_came_last(tmp_path):
    db = tmp_path / "ledger.db"
    async with serving(db) as service:
        service.app.start_beats()
        await grown(await service.admin(), 5)
        size = service.app.ledger.size
        assert await service.app.ledger.store.last_checkpoint() is None
    async with serving(db) as service:
        kept = await service.app.ledger.store.last_checkpoint()
        assert kept.size == size
        assert parse(kept.note).origin == service.app.ledger.name


async def test_the_last_verification_is_told_and_what_it_found(app, admin, user):
    assert (await admin.get(HOME)).json["verified"] is None
    await user.create("job")
    verdict = await verify_file(app.config.db)
    verdicts.note(app.config.db, verdict, MIDNIGHT_US)
    assert (await admin.get(HOME)).json["verified"] == {
        "verified_at": "2026-11-22T00:00:00.000000Z", "ok": True, "size": verdict.size, "root": verdict.root,
        "problem": None,
    }  # fmt: skip
    # A file that is none tells nothing, and breaks nothing
    verdicts.path_of(app.config.db).write_text("nonsense")
    assert (await admin.get(HOME)).json["verified"] is None


async def test_many_who_ask_at_once_get_checkpoints_that_agree(app, user):
    async def ask(number):
        if number % 3 == 0:
            await user.create("job")
        return (await user.get(f"{HOME}/checkpoint")).body.decode()

    notes = await asyncio.gather(*(ask(number) for number in range(30)))
    found = {}
    for note in notes:
        _, size, root = checker.checkpoint_of(note, vkey(app))
        assert found.setdefault(size, root) == root
    assert json.dumps(sorted(found))
