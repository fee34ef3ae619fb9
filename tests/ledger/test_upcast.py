"""Every log ever written stays readable: the golden logs, and data of an older shape lifted into today's."""

import json

import msgspec
import pytest

from ledger import Ledger, archive, cloudevents, engine, upcast
from ledger.errors import InvalidInput, Unreadable
from ledger.events import NOTHING, SCHEMA, TYPES, Changed
from ledger.leaf import leaf_hash
from ledger.verify import verify
from tests.golden import make
from tests.ledger import histories
from tests.ledger.histories import Clock, birth, event, fold

GOLDEN = make.files()
LINES = [(schema, found) for schema, path in GOLDEN.items() for found in make.read(path)]


def expected(schema):
    return json.loads((make.FOLDER / f"expected.v{schema}.json").read_text("utf-8"))


def subset(found, wanted):
    """The wanted names of what was found; later programs may know more."""
    return {name: found.get(name) for name in wanted} if isinstance(wanted, dict) else found


# --- golden logs ------------------------------------------------------------------------------------------------------


def test_every_type_stands_in_the_golden_log_of_its_schema():
    held = {(found.type, found.schema) for _, found in LINES}
    missing = {(name, info.schema) for name, info in TYPES.items()} - held
    assert not missing, "run `python -m tests.golden.make`; it adds lines and never changes one"


@pytest.mark.parametrize("name", sorted(TYPES))
def test_a_shape_has_just_the_fields_of_the_golden_log_until_its_schema_is_raised(name):
    info = TYPES[name]
    filled = set()
    for _, found in LINES:
        if (found.type, found.schema) == (name, info.schema):
            filled |= set(json.loads(found.data))
    assert filled == set(make.fields_of(info)), "a new shape raises `schema` and comes with an upcast"


@pytest.mark.parametrize(("schema", "found"), LINES, ids=[f"v{schema}-{found.position}" for schema, found in LINES])
def test_a_golden_event_reads_as_the_fact_it_always_was_and_is_written_the_same(schema, found):
    fact = upcast.fact(found)
    assert (
        subset(json.loads(msgspec.json.encode(fact)), expected(schema)["facts"][found.position - 1])
        == (expected(schema)["facts"][found.position - 1])
    )
    if found.schema == TYPES[found.type].schema:
        assert msgspec.json.encode(fact) == found.data
    line = GOLDEN[schema].read_bytes().splitlines()[found.position - 1]
    assert cloudevents.encode(found, make.SOURCE) == line


@pytest.mark.parametrize("schema", GOLDEN)
def test_golden_streams_fold_to_the_states_they_always_had(schema):
    streams: dict = {}
    for found in make.read(GOLDEN[schema]):
        streams.setdefault(found.stream, []).append(found)
    assert set(streams) == set(expected(schema)["states"])
    for stream, wanted in expected(schema)["states"].items():
        state = fold(streams[stream])
        assert subset(state and json.loads(msgspec.json.encode(state)), wanted) == wanted


@pytest.mark.parametrize("schema", GOLDEN)
async def test_a_golden_log_is_restored_with_its_root_and_verifies(schema, tmp_path):
    events = make.read(GOLDEN[schema])
    root = expected(schema)["root"]
    assert histories.root([histories.leaf_hash(found) for found in events]).hex() == root
    assert [leaf_hash(found) for found in events] == [histories.leaf_hash(found) for found in events]
    async with Ledger.open(tmp_path / "ledger.db", clock=Clock()) as ledger:
        with GOLDEN[schema].open("rb") as lines:
            outcomes = [outcome async for outcome in archive.load(ledger, lines, "jobledger", "golden")]
        assert [(outcome.appended, outcome.rejects) for outcome in outcomes] == [(len(events), ())]
        assert (await ledger.store.head()).frontier.root().hex() == root
    connection = engine.connect(tmp_path / "ledger.db", read_only=True)
    verdict = verify(connection)
    connection.close()
    assert (verdict.problems, verdict.root) == ([], root)


# --- upcasts ----------------------------------------------------------------------------------------------------------


def test_every_older_schema_has_its_step():
    wanted = {(name, schema) for name, info in TYPES.items() for schema in range(1, info.schema)}
    assert set(upcast.UPCASTS) == wanted


@pytest.fixture
def third_schema(monkeypatch):
    """As if `job.failed` had once said `why`, then `reason`, and now `metadata.reason`."""
    monkeypatch.setitem(TYPES, "job.failed", msgspec.structs.replace(TYPES["job.failed"], schema=SCHEMA + 2))
    steps = {
        ("job.failed", SCHEMA): lambda data: {"reason": data["why"]},
        ("job.failed", SCHEMA + 1): lambda data: {"metadata": {"reason": data["reason"]}},
    }
    for step, change in steps.items():
        monkeypatch.setitem(upcast.UPCASTS, step, change)


OLD = [(SCHEMA, {"why": "x"}), (SCHEMA + 1, {"reason": "x"}), (SCHEMA + 2, {"metadata": {"reason": "x"}})]


@pytest.mark.usefixtures("third_schema")
@pytest.mark.parametrize(("schema", "data"), OLD)
def test_data_of_any_older_schema_is_lifted_step_by_step(schema, data):
    found = event("job.failed", data, schema=schema)
    assert upcast.fact(found) == Changed(metadata={"reason": "x"})
    wire = cloudevents.decode(cloudevents.encode(found, "x"))
    assert cloudevents.fact_of(wire) == (Changed(metadata={"reason": "x"}), found.data)
    assert cloudevents.to_draft(wire, actor="me", now_us=1).schema == schema


@pytest.mark.usefixtures("third_schema")
async def test_a_log_with_old_and_new_shapes_folds_and_restores(ledger):
    events = [
        event("job.created", birth("job")),
        event("job.pending", version=2),
        event("job.running", version=3),
        event("job.failed", {"why": "x"}, version=4),
    ]
    assert fold(events).metadata == {"reason": "x"}
    lines = [cloudevents.encode(found, "x") for found in events]
    (outcome,) = [outcome async for outcome in archive.load(ledger, lines, "jobledger", "x")]
    assert outcome.rejects == ()
    assert await ledger.read(events[0].stream) == events
    assert (await ledger.state(events[0].stream)).metadata == {"reason": "x"}


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        pytest.param(event("job.exploded"), "newer than this program", id="an unknown type"),
        pytest.param(event("job.failed", schema=SCHEMA + 1), "newer than this program", id="a newer schema"),
        pytest.param(event("job.failed", schema=0), "schema 0", id="schema 0"),
        pytest.param(event("job.failed", schema=-1), "schema -1", id="schema -1"),
        pytest.param(event("job.created"), "does not fit", id="without what it needs"),
        pytest.param(event("job.failed", {"surprise": 1}), "does not fit", id="an unknown field"),
        pytest.param(event("job.failed", raw=b"{"), "does not fit", id="no JSON"),
        pytest.param(event("job.failed", raw=b'{"metadata":{"a":"\xff"}}'), "does not fit", id="no Unicode"),
        pytest.param(event("job.failed", raw=b""), "does not fit", id="empty"),
        pytest.param(event("job.failed", raw=b'{"metadata":' + b"[" * 10**5), "does not fit", id="too deep"),
    ],
)
def test_an_event_that_this_program_cannot_read_is_named_by_its_position(found, reason):
    for _ in range(2):  # what is known from before must not hide it
        with pytest.raises(Unreadable, match=f"event 1 .*{reason}"):
            upcast.fact(found)


def test_an_erased_event_has_no_fact():
    assert upcast.fact(event("job.created", raw=None, salt=None, digest="0" * 64)) is None


def test_facts_that_are_shared_are_the_right_ones_however_many_there_are():
    for number in range(3000):
        found = event("job.failed", {"ttft_ns": number})
        assert upcast.fact(found) == upcast.fact(found) == Changed(ttft_ns=number)
    assert upcast.fact(event("job.running")) is upcast.fact(event("job.pending")) is NOTHING
    assert upcast.fact(event("job.deleted")) != NOTHING


@pytest.mark.parametrize("schema", [0, -1, SCHEMA + 1, 10**30])
def test_a_line_of_a_schema_that_never_was_is_refused(schema):
    line = cloudevents.encode(event("job.failed", schema=schema), "x")
    with pytest.raises(InvalidInput, match="schemaversion"):
        cloudevents.fact_of(cloudevents.decode(line))
