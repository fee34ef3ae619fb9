"""Bundles: a history that proves itself, every word of which is checked, read from hostile hands."""

import asyncio
import base64
import json
import random
import re
from hashlib import sha256

import pytest

from ledger import Ledger, archive, bundle, keys
from ledger.checkpoint import Signer
from ledger.errors import Damaged, InvalidInput, NotFound, Unreadable
from ledger.events import Recorded
from tests.ledger import checker
from tests.ledger.engines import ME, create, scramble
from tests.ledger.histories import ACTOR, Clock, job, run

RUN = run(50)


async def tell(ledger):
    """A run with steps, messages and an end, among others' events."""
    await scramble(ledger, seed=1)
    await ledger.append(RUN, "run.created", {"user_id": ACTOR, "agent_id": "agent-1", "metadata": {"é\u2028": "🦉"}})
    await ledger.append(RUN, "run.running", {}, key="a key")
    for number in range(3):
        await scramble(ledger, seed=2 + number, rounds=3)
        await ledger.append(RUN, "run.updated", {"metadata": {"n": number}})
    await ledger.append(RUN, "run.failed", {"stop_reason": "error", "error": {"type": "E", "message": "no"}})
    await scramble(ledger, seed=9, rounds=3)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The bytes of a bundle, and the verifier key that is to be trusted."""
    path = tmp_path_factory.mktemp("made") / "ledger.db"

    async def make():
        async with Ledger.open(path, clock=Clock(), name="ledger.example/one") as ledger:
            await tell(ledger)
            return await archive.bundle(ledger, RUN)

    return asyncio.run(make()), keys.published(path)


def changed(raw, change):
    found = json.loads(raw)
    change(found)
    return json.dumps(found, ensure_ascii=False).encode()


async def test_a_bundle_is_good_on_every_engine_and_tells_what_it_holds(ledger):
    await tell(ledger)
    raw = await archive.bundle(ledger, RUN)
    told = bundle.verify(raw)
    head = await ledger.store.head()
    assert (told.ok, told.problems, told.stream, told.events, told.erased) == (True, [], RUN, 6, 0)
    assert (told.size, told.root, told.trusted) == (head.size, head.frontier.root().hex(), False)
    assert told.summary[:4] == [
        f"{RUN} in {ledger.name}", "status failed, stopped by error", f"of {ACTOR}, by agent-1", "6 events"
    ]  # fmt: skip
    assert len(told.summary) == 4 + 6


def test_the_checker_from_the_standards_believes_every_event_of_it(made):
    raw, (key,) = made
    found = json.loads(raw)
    _, size, root = checker.checkpoint_of(found["checkpoint"], str(key))
    for event in found["events"]:
        leaf = sha256(b"\0" + event["leaf"].encode()).digest()
        path = [bytes.fromhex(each) for each in event["path"]]
        assert checker.inclusion_holds(event["position"] - 1, size, leaf, path, root)
        digest = sha256(bytes.fromhex(event["salt"]) + event["data"].encode()).hexdigest()
        assert json.loads(event["leaf"])[10] == digest


def places(value, path=()):
    """Every text and number in a bundle, by the way to it."""
    if isinstance(value, dict | list):
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, name))
    else:
        yield path


@pytest.mark.parametrize("seed", range(3))
def test_a_bundle_with_any_value_changed_is_refused(made, seed):
    raw, trusted = made
    chance = random.Random(seed)
    for way in places(json.loads(raw)):

        def change(found, way=way):
            *above, last = way
            for name in above:
                found = found[name]
            value = found[last]
            if isinstance(value, int):
                found[last] = value ^ 1 << chance.randrange(8)
            else:
                at = chance.randrange(len(value))
                found[last] = value[:at] + chr(ord(value[at]) ^ 1) + value[at + 1 :]

        try:
            told = bundle.verify(changed(raw, change), trusted)
        except Unreadable:
            continue
        assert not told.ok, way
        assert told.problems


def forged_event(item):
    """An item of a bundle as the event that it says it is."""
    *envelope, digest = json.loads(item["leaf"])
    return Recorded(*envelope, item["data"].encode(), bytes.fromhex(item["salt"]), digest)


def swap(events):
    events[1], events[2] = events[2], events[1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda found: found["events"].clear(), "holds no event"),
        (lambda found: found["events"].pop(0), "version 2 of .* follows version 0"),
        (lambda found: found["events"].pop(2), "version 4 of .* follows version 2"),
        (lambda found: swap(found["events"]), "stands behind an event of a later position"),
        (lambda found: found["events"].append(found["events"][-1]), "stands behind an event of a later position"),
        (lambda found: found["events"].pop(), "its summary says other things"),
        (lambda found: found["summary"].append("and more"), "its summary says other things"),
        (lambda found: found["events"][1].update(data=None, salt=None), "data of .* is gone, and no event tells"),
        (lambda found: found["events"][1].update(data=None), "has data without salt, or salt without data"),
        (lambda found: found["events"][1].update(salt=found["events"][1]["salt"].upper()), "one right spelling"),
        (lambda found: found["events"][1].update(leaf=found["events"][1]["leaf"].replace(",", ", ")), "as leaves are"),
        (lambda found: found["events"][1].update(leaf="[" * 60), "is no such thing"),
        (lambda found: found["events"][1].update(path=["x"]), "does not lead to the root that was signed"),
        (lambda found: found["events"][1].update(path=[]), "does not lead to the root that was signed"),
        (lambda found: found.update(stream=run(51)), "is that of an event of"),
        (lambda found: found.update(ledger="another.example"), "is one of 'ledger.example/one'"),
        (lambda found: found.update(key="x"), "the key: "),
        (lambda found: found.update(checkpoint="x"), "the checkpoint: is no signed note"),
    ],
)
def test_what_is_wrong_with_a_bundle_is_named(made, change, said):
    raw, trusted = made
    told = bundle.verify(changed(raw, change), trusted)
    assert not told.ok
    assert re.search(said, "; ".join(each.problem for each in told.problems))


def test_a_bundle_that_somebody_made_up_with_a_key_of_his_own_is_refused_by_who_names_the_true_one(made):
    raw, trusted = made

    def forge(found):
        # One event says another thing, and a tree of that event alone is signed by another key
        event = found["events"][0]
        leaf = json.loads(event["leaf"])
        leaf[0], leaf[7] = 1, "user-of-another"
        event["leaf"] = json.dumps(leaf, separators=(",", ":"), ensure_ascii=False)
        event["position"], event["path"] = 1, []
        found["events"] = [event]
        forger = Signer.new(found["ledger"])
        found["key"] = str(forger.verifier)
        found["checkpoint"] = forger.sign(1, sha256(b"\0" + event["leaf"].encode()).digest())
        found["summary"] = []

    forged = changed(raw, forge)
    assert {each.problem for each in bundle.verify(forged).problems} == {
        "its summary says other things than its events"
    }
    told = bundle.verify(forged, trusted)
    assert "is not signed by a key that is trusted here" in told.problems[0].problem


def test_a_key_that_signed_beside_the_true_one_is_not_taken_for_it(made):
    raw, trusted = made

    def co_sign(found):
        # Somebody puts a signature of a key of his own under the true note, and that key into the bundle
        other = Signer.new(found["ledger"])
        text, line = found["checkpoint"].split("\n\n")
        size, root = int(text.split("\n")[1]), base64.b64decode(text.split("\n")[2])
        found["checkpoint"] = f"{text}\n\n{line}{other.sign(size, root).split(chr(10) * 2)[1]}"
        found["key"] = str(other.verifier)

    told = bundle.verify(changed(raw, co_sign), trusted)
    assert (told.ok, told.trusted, told.key) == (False, True, str(trusted[0]))
    assert "the key that it brings is not one that is trusted here" in told.problems[0].problem
    # And who names no key is told which one it was
    told = bundle.verify(changed(raw, co_sign))
    assert (told.ok, told.trusted) == (True, False)
    assert told.key != str(trusted[0])


def test_a_bundle_is_trusted_only_when_a_key_that_is_trusted_signed_it(made):
    raw, trusted = made
    assert bundle.verify(raw, trusted).trusted
    assert not bundle.verify(raw).trusted
    assert not bundle.verify(raw, [Signer.new("ledger.example/one").verifier]).trusted


@pytest.mark.parametrize("moved", [1, -1, 8])
def test_a_salt_that_takes_from_the_data_or_gives_to_it_is_refused(made, moved):
    def move(found):
        event = found["events"][0]
        both = bytes.fromhex(event["salt"]) + event["data"].encode()
        event["salt"], event["data"] = both[: 16 + moved].hex(), both[16 + moved :].decode("latin-1")

    told = bundle.verify(changed(made[0], move), made[1])
    assert f"has a salt of {16 + moved} bytes, not of 16" in [each.problem for each in told.problems]


async def test_who_erased_and_why_cannot_be_left_out_of_a_bundle(ledger):
    await tell(ledger)
    await ledger.erase(RUN, "asked for")

    def hide(found):
        found["events"][-1].update(data=None, salt=None)
        found["summary"] = [line.removesuffix(": asked for") for line in found["summary"]]

    told = bundle.verify(changed(await archive.bundle(ledger, RUN), hide))
    assert [each.problem for each in told.problems] == ["data of run.erased itself is gone, which no erasure takes"]


@pytest.mark.parametrize(
    ("name", "value"), [("stream", '"x"'), ("summary", "[]"), ("position", "1"), ("data", '"x"'), ("salt", "null")]
)
def test_a_name_that_stands_twice_is_refused(made, name, value):
    # Given a bundle in which one reader sees the first value of a name, and another the last
    raw = made[0].replace(f'"{name}":'.encode(), f'"{name}": {value}, "{name}":'.encode(), 1)
    with pytest.raises(Unreadable, match="a name stands twice"):
        bundle.verify(raw)


@pytest.mark.parametrize("limit", ["DATA_SIZE_MAX", "SIZE_MAX"])
async def test_a_bundle_that_would_be_too_large_is_not_made(ledger, monkeypatch, limit):
    await tell(ledger)
    monkeypatch.setattr(f"ledger.bundle.{limit}", 100)
    with pytest.raises(InvalidInput, match="more than a bundle can"):
        await archive.bundle(ledger, RUN)


async def test_what_was_erased_is_in_a_bundle_as_a_digest_and_still_proved(ledger):
    await tell(ledger)
    await ledger.erase(RUN, "asked for")
    raw = await archive.bundle(ledger, RUN)
    assert "agent-1" not in raw.decode()
    told = bundle.verify(raw)
    assert (told.ok, told.events, told.erased) == (True, 7, 6)
    assert [line for line in told.summary if line.endswith(": asked for")]
    assert [line for line in told.summary if line.startswith("erased at position")]


async def test_a_bundle_of_what_is_not_there_or_damaged_is_not_made(tmp_path):
    async with Ledger.open(tmp_path / "ledger.db") as ledger:
        await ledger.execute(create(job(1)), ME)
        with pytest.raises(NotFound):
            await archive.bundle(ledger, job(2))

        def tamper(connection):
            connection.execute("DROP TRIGGER events_are_never_changed")
            connection.execute("UPDATE events SET actor = 'x'")

        await ledger.store._writer.run(tamper)
        with pytest.raises(Damaged, match="position 1 does not match its leaf hash"):
            await archive.bundle(ledger, job(1))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b'{"format": "jobledger-bundle/2"}',
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"format":1}',
        base64.b64encode(bytes(1000)),
    ],
)
def test_what_is_no_bundle_is_refused(raw):
    with pytest.raises(Unreadable, match="it is no bundle"):
        bundle.verify(raw)


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found.update(format="jobledger-bundle/2"),
        lambda found: found.update(more=1),
        lambda found: found["events"][0].update(more=1),
        lambda found: found["events"][0].update(position="1"),
        lambda found: found["events"][0].update(position=None),
        lambda found: found.pop("key"),
    ],
)
def test_a_bundle_of_another_shape_is_refused(made, change):
    with pytest.raises(Unreadable):
        bundle.verify(changed(made[0], change))


@pytest.mark.parametrize("leaf", [
    [2**70, RUN, 1, "run.created", 1, 2**62, 0, "a", None, None, "0" * 64],
    [-1, RUN, 1, "run.created", 1, -(2**62), 0, "a", None, None, "0" * 64],
    [1, RUN, 1, "nonsense", 99, 0, 0, "a", None, None, "0" * 64],
    [1, RUN, 1, "run.created", 99, 0, 0, "a", None, None, "0" * 64],
    [1, RUN, 1, "access.granted", 1, 0, 0, "a", None, None, "0" * 64],
    [1, "", 0, "", 0, 0, 0, "", "", "", ""],
])  # fmt: skip
def test_leaves_from_hostile_hands_are_told_and_never_raise(made, leaf):
    def change(found):
        found["events"][0].update(position=leaf[0], leaf=json.dumps(leaf, separators=(",", ":")))

    try:
        assert not bundle.verify(changed(made[0], change)).ok
    except Unreadable:
        assert abs(leaf[0]) > 2**63


def test_any_bit_of_the_file_that_is_flipped_is_noticed_or_means_nothing(made):
    raw, trusted = made
    chance = random.Random(7)
    good = json.loads(raw)
    for _ in range(600):
        at = chance.randrange(len(raw))
        other = raw[:at] + bytes([raw[at] ^ 1 << chance.randrange(8)]) + raw[at + 1 :]
        try:
            told = bundle.verify(other, trusted)
        except Unreadable:
            continue
        if told.ok:  # a blank that became another one
            assert json.loads(other) == good
