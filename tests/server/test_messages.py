"""Messages over HTTP: recorded all or none, read in the order of arrival, paged without loss."""

import asyncio
import io
import itertools
import random

import msgspec
import pytest

from ledger import ids
from tests.ledger.test_messages import GOOD
from tests.scratch import scratch
from tests.server.said import follow, message_id, step_id, text, walk
from tests.server.serving import Clock, serving
from tests.server.test_errors import check_shape

MIB = 2**20


@pytest.fixture
async def run(user):
    return await user.create("run", status="running")


def home(run):
    return f"/v1/runs/{run}/messages"


async def size_of(user):
    return (await user.service.app.ledger.store.head()).size


# --- recording --------------------------------------------------------------------------------------------------------


async def test_one_message_is_answered_with_itself(user, run, clock):
    clock.advance(1.5)
    answer = await user.post(home(run), json=text(1, mine=[1, {"é": None}]))
    assert answer.status == 201
    assert answer.json == {**text(1, mine=[1, {"é": None}]), "date": "2026-11-22T00:00:01.500000Z", "run_id": run}
    assert answer.position == await size_of(user)
    assert (await user.get(home(run))).json == [answer.json]


async def test_an_array_is_answered_with_an_array_in_its_order(user, run):
    before = await size_of(user)
    answer = await user.post(home(run), json=[text(3), text(1), text(2)])
    assert (answer.status, answer.ids) == (201, [message_id(3), message_id(1), message_id(2)])
    assert answer.position == before + 3
    assert (await user.get(home(run))).body == answer.body
    alone = await user.post(home(run), json=[text(9)])
    assert isinstance(alone.json, list)


@pytest.mark.parametrize(("name", "own"), GOOD)
async def test_each_type_comes_back_to_the_letter(user, run, name, own):
    said = {"mine": {"é": [1, 2.5]}, "message_type": name, "date": "2020-01-01T00:00:00Z", "run_id": run, **own}
    answer = await user.post(home(run), json=said)
    assert answer.status == 201, answer.body
    assert list(answer.json.items())[1:] == list(said.items())
    assert (await user.get(home(run))).json == [answer.json]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ({}, {"date": "{now}", "run_id": "{run}"}),
        ({"date": None}, {"date": "{now}", "run_id": "{run}"}),
        ({"run_id": None}, {"run_id": "{run}", "date": "{now}"}),
        ({"run_id": None, "date": "2020-01-01"}, {"run_id": "{run}", "date": "2020-01-01"}),
        ({"date": None, "run_id": None}, {"date": "{now}", "run_id": "{run}"}),
        ({"date": "2020-01-01T00:00:00+02:00"}, {"date": "2020-01-01T00:00:00+02:00", "run_id": "{run}"}),
    ],
)
async def test_the_date_and_the_run_are_shown_where_they_were_not_said(user, run, said, shown):
    answer = await user.post(home(run), json=text(1, **said))
    expected = {name: value.format(now="2026-11-22T00:00:00.000000Z", run=run) for name, value in shown.items()}
    assert list(answer.json.items()) == list({**text(1), **expected}.items())


async def test_a_message_s_time_is_its_date(user, run):
    await user.post(home(run), json=[text(1, date="2020-01-01T00:00:00Z"), text(2)])
    assert [event["time"] for event in (await user.log(run))[-2:]] == [
        "2020-01-01T00:00:00.000000Z", "2026-11-22T00:00:00.000000Z",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("bad", "where"),
    [
        (text(4, content=5), "[3].content"),
        (text(4, content=[{"type": "text"}]), "[3].content[0]"),
        ({"content": "x"}, "[3].message_type"),
        (text(4, message_type="owl"), "[3].message_type"),
        (text(4, id="message-1"), "[3].id"),
        (text(4, step_id="x"), "[3].step_id"),
        (text(4, date="soon"), "[3].date"),
        (text(4, run_id="run-00000000-0000-4000-8000-000000000009"), "[3].run_id"),
        (5, "[3]"),
        (None, "[3]"),
        ([text(4)], "[3]"),
    ],
)
async def test_a_fault_is_named_with_its_number_and_nothing_is_recorded(user, run, bad, where):
    before = await size_of(user)
    answer = await user.post(home(run), json=[text(1), text(2), text(3), bad, text(5)])
    check_shape(answer, 422, "validation_error")
    assert [fault["where"] for fault in answer.error["details"]] == [where]
    assert await size_of(user) == before
    assert (await user.get(home(run))).json == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400), (b"nope", 400), (b"[]", 422), (b"7", 422), (b"null", 422), (b'"text"', 422), (b"{}", 422),
        (b"[" * 3000, 422), (b'{"a":' * 65 + b"1" + b"}" * 65, 422), (b"\xff", 400), (b'[{"n":1e999}]', 422),
        (b'{"message_type":"user_message","content":"a","n":92233720368547758080}', 422),
        (b'{"message_type":"user_message","content":"\\ud800"}', 400),
    ],
)  # fmt: skip
async def test_a_body_that_is_no_message_is_refused(user, run, body, status):
    before = await size_of(user)
    answer = await user.post(home(run), data=body, headers={"Content-Type": "application/json"})
    check_shape(answer, status, {400: "invalid_request", 422: "validation_error"}[status])
    assert await size_of(user) == before


async def test_one_object_may_have_a_mebibyte_and_an_array_much_more(user, run):
    def of(size):
        empty = len(msgspec.json.encode(text(1, content="")))
        return msgspec.json.encode(text(1, content="x" * (size - empty)))

    async def post(body):
        return await user.post(home(run), data=io.BytesIO(body))

    assert (await post(of(MIB))).status == 201
    check_shape(await post(of(MIB + 1)), 413, "payload_too_large")
    assert (await post(b"[" + of(MIB + 1) + b"]")).status == 201
    assert (await post(b" \n[" + of(2 * MIB) + b"]")).status == 201
    assert len((await user.get(home(run))).json) == 3


async def in_pieces(*pieces):
    for piece in pieces:
        yield piece
        await asyncio.sleep(0)


async def test_an_array_is_known_as_one_however_its_bytes_arrive(user, run):
    big = msgspec.json.encode(text(1, content="x" * MIB))
    answer = await user.post(home(run), data=in_pieces(b" ", b"\n", b"\t", b"[", big, b"]"))
    assert answer.status == 201, answer.body
    answer = await user.post(home(run), data=in_pieces(b" ", b"\n", b"\t", big))
    check_shape(answer, 413, "payload_too_large")


async def test_the_limit_of_an_array_is_that_of_a_bulk_append(ledger_file):
    async with serving(ledger_file, Clock(), bulk_size_max=3 * MIB) as service:
        user = await service.user()
        run = await user.create("run")
        for data in (io.BytesIO(b"[" + b" " * 3 * MIB + b"]"), in_pieces(b"[", *[b" " * MIB] * 3, b"]")):
            check_shape(await user.post(home(run), data=data), 413, "payload_too_large")
        assert (await user.post(home(run), json=text(1))).status == 201


async def test_the_same_key_and_request_gets_the_same_answer_and_appends_nothing(user, run, clock):
    key = {"Idempotency-Key": "k"}
    for said in ([text(), text()], [text()]):
        key = {"Idempotency-Key": f"k{len(said)}"}
        first = await user.post(home(run), json=said, headers=key)
        await user.post(home(run), json=text())
        clock.advance(9)
        before = await size_of(user)
        again = await user.post(home(run), json=said, headers=key)
        assert (again.status, again.body, again.position) == (201, first.body, first.position)
        assert again.headers["Idempotency-Replayed"] == "true"
        assert await size_of(user) == before
    for path, body in ((home(run), text()), (f"/v1/runs/{run}/steps", {}), ("/v1/jobs/", {})):
        check_shape(await user.post(path, json=body, headers=key), 409, "idempotency_conflict")
    assert await size_of(user) == before


async def test_a_run_that_is_not_the_caller_s_or_gone_takes_no_messages(user, other, run):
    gone = await user.create("run")
    await user.delete(f"/v1/runs/{gone}")
    job = await user.create("job")
    for who, id, status in (
        (other, run, 404), (user, gone, 404), (user, ids.make("run"), 404), (user, "run-1", 422), (user, job, 422),
    ):  # fmt: skip
        before = await size_of(user)
        for answer in (await who.post(home(id), json=text()), await who.post(f"/v1/runs/{id}/steps", json={})):
            assert answer.status == status, answer.body
        assert (await who.get(home(id))).status == status
        assert await size_of(user) == before


async def test_a_token_that_may_only_read_reads(user, run, service):
    reader = await service.user("read", id=user.id)
    await user.post(home(run), json=text(1))
    check_shape(await reader.post(home(run), json=text()), 403, "forbidden")
    assert (await reader.get(home(run))).ids == [message_id(1)]


async def test_an_admin_records_for_a_user_and_the_event_says_so(user, admin, run):
    answer = await admin.post(home(run), json=text(1), headers={"user_id": user.id})
    assert answer.status == 201
    event = (await user.log(run))[-1]
    assert (event["actor"], event["data"]["by"]) == (user.id, admin.id)


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
async def test_messages_that_come_after_the_end_are_kept_and_change_nothing_of_the_run(user, status):
    run = await user.create("run", status=status)
    before = await user.get(f"/v1/runs/{run}")
    assert (await user.post(home(run), json=text(1))).status == 201
    after = await user.get(f"/v1/runs/{run}")
    assert (after.body, after.etag) == (before.body, before.etag)
    assert (await user.get(home(run))).ids == [message_id(1)]


async def test_callers_at_the_same_time_each_get_their_own_messages_in_a_row(user, run):
    async def one(number):
        said = [text(100 * number + part) for part in range(5)]
        assert (await user.post(home(run), json=said)).ids == [each["id"] for each in said]

    await asyncio.gather(*(one(number) for number in range(1, 21)))
    found = (await user.get(home(run))).ids
    groups = [found[start : start + 5] for start in range(0, 100, 5)]
    assert sorted(groups) == [[message_id(100 * number + part) for part in range(5)] for number in range(1, 21)]


# --- reading ----------------------------------------------------------------------------------------------------------


async def test_messages_stand_in_the_order_of_arrival_whatever_their_dates(user, run):
    dates = ["2026-01-02", "2026-01-02", "2026-01-01", "2030-01-01", "2026-01-02"]
    said = [text(number, date=date) for number, date in zip((5, 3, 9, 1, 2), dates, strict=True)]
    await user.post(home(run), json=said)
    order = [each["id"] for each in said]
    assert (await user.get(home(run))).ids == order
    assert (await user.get(home(run) + "?order=asc")).ids == order
    assert (await user.get(home(run) + "?order=desc")).ids == order[::-1]


PAGES = [
    ("limit=2", [1, 2], "after"), ("after=2", [3, 4, 5], None), ("before=4", [1, 2, 3], None),
    ("before=4&limit=2", [2, 3], "before"), ("after=1&before=5", [2, 3, 4], None),
    ("after=1&before=5&limit=2", [2, 3], "after"), ("order=desc", [5, 4, 3, 2, 1], None),
    ("order=desc&after=4", [3, 2, 1], None), ("order=desc&before=3", [5, 4], None),
    ("order=desc&before=1&limit=2", [3, 2], "before"), ("order=desc&after=5&before=2", [4, 3], None),
    ("after=5", [], None), ("before=1", [], None), ("after=4&before=2", [], None), ("order_by=created_at&limit=5",
    [1, 2, 3, 4, 5], None),
]  # fmt: skip


@pytest.mark.parametrize(("query", "shown", "link"), PAGES)
async def test_a_page_is_what_stands_before_and_after_in_the_asked_order(user, run, query, shown, link):
    await user.post(home(run), json=[text(number) for number in range(1, 6)])
    for name in ("after", "before"):
        query = "&".join(
            f"{name}={message_id(int(part.split('=')[1]))}" if part.startswith(f"{name}=") else part
            for part in query.split("&")
        )
    answer = await user.get(f"{home(run)}?{query}")
    assert answer.ids == [message_id(number) for number in shown]
    assert (
        (answer.next_path or "").count(f"{link}={message_id(shown[-1 if link == 'after' else 0])}") == bool(link)
        if shown
        else answer.next_path is None
    )


@pytest.mark.parametrize("name", ["after", "before"])
@pytest.mark.parametrize("where", ["runs", "steps"])
async def test_a_cursor_that_is_no_message_of_the_list_is_refused(user, run, name, where):
    second = await user.create("run")
    await user.post(home(second), json=text(7))
    await user.post(f"/v1/runs/{run}/steps", json={"id": step_id(1)})
    await user.post(home(run), json=text(8))
    path = home(run) if where == "runs" else f"/v1/steps/{step_id(1)}/messages"
    for cursor in (message_id(7), message_id(99), *([message_id(8)] if where == "steps" else [])):
        check_shape(await user.get(f"{path}?{name}={cursor}"), 400, "invalid_request")
    for query in (f"{name}=x", f"{name}={step_id(1)}", "limit=0", "limit=1001", "order=up", "colour=red",
                  "order_by=date"):  # fmt: skip
        check_shape(await user.get(f"{path}?{query}"), 422, "validation_error")


async def test_the_messages_of_a_step_are_those_that_name_it(user, run):
    second = await user.create("run")
    await user.post(f"/v1/runs/{run}/steps", json=[{"id": step_id(1)}, {"id": step_id(2)}])
    await user.post(
        home(run), json=[text(1), *(text(number, step_id=step_id(number % 2 + 1)) for number in range(2, 8))]
    )
    await user.post(home(second), json=text(9, step_id=step_id(1)))
    path = f"/v1/steps/{step_id(1)}/messages"
    assert (await user.get(path)).ids == [message_id(number) for number in (2, 4, 6)]
    assert (await user.get(path + "?order=desc&limit=1")).ids == [message_id(6)]
    assert [page[0]["id"] for page in await walk(user, path, "after", limit=1)] == [
        message_id(number) for number in (2, 4, 6)
    ]
    check_shape(await user.get(f"/v1/steps/{step_id(3)}/messages"), 404, "not_found")


def parts_of(numbers):
    """Messages by the numbers of their ids; equal numbers are parts of one message, told apart by ``content``."""
    return [text(number, content=str(place)) for place, number in enumerate(numbers)]


def grouped(parts):
    """Each message where its first part stands, with all its parts, in the order of arrival."""
    found = {}
    for part in parts:
        found.setdefault(part["id"], []).append(part["content"])
    return list(found.values())


async def check_walks(user, path, numbers):
    """Walk in both orders with every limit, by id and by Link; compare with brute force."""
    groups = grouped(parts_of(numbers))
    expected = {
        "asc": list(itertools.chain(*groups)),
        "desc": list(itertools.chain(*(group[::-1] for group in groups[::-1]))),
    }
    for limit, order in itertools.product(range(1, len(numbers) + 2), expected):
        pages = await walk(user, path, "after", limit=limit, order=order)
        assert [part["content"] for page in pages for part in page] == expected[order]
        for page in pages:  # a page ends with the message that fills it
            named = [part["id"] for part in page]
            assert len(named) - named.count(named[-1]) < limit
        assert await follow(user, f"{path}?limit={limit}&order={order}") == pages


INTERLEAVED = [
    [1, 1, 1], [1, 2, 1], [1, 2, 1, 2], [1, 2, 3, 1], [1, 2, 2, 3, 3, 3], [1, 2, 1, 3, 2, 3], [1, 2, 3, 4],
]  # fmt: skip


@pytest.mark.parametrize("numbers", INTERLEAVED, ids=str)
async def test_a_page_never_splits_a_message_and_a_walk_meets_every_part_once(user, run, numbers):
    await user.post(home(run), json=parts_of(numbers))
    await check_walks(user, home(run), numbers)


@pytest.mark.parametrize("seed", range(6))
async def test_walks_through_random_parts_agree_with_brute_force(user, run, seed):
    chance = random.Random(seed)
    numbers = [chance.randint(1, chance.choice([2, 4, 9])) for _ in range(chance.randint(1, 10))]
    await user.post(home(run), json=parts_of(numbers))
    await check_walks(user, home(run), numbers)


@pytest.mark.parametrize("seed", range(8))
async def test_a_walk_backwards_from_the_last_message_meets_every_part_before_it_once(user, run, seed):
    chance = random.Random(seed)
    numbers = [*(chance.randint(1, 4) for _ in range(9)), 9]
    await user.post(home(run), json=parts_of(numbers))
    expected = grouped(parts_of(numbers))[:-1]
    for limit in range(1, 10):
        pages, mark = [], message_id(9)
        while page := (await user.get(f"{home(run)}?before={mark}&limit={limit}")).json:
            pages.insert(0, [part["content"] for part in page])
            mark = page[0]["id"]
        assert list(itertools.chain(*pages)) == list(itertools.chain(*expected))
        first = await user.get(f"{home(run)}?before={message_id(9)}&limit={limit}")
        links, at = [[part["content"] for part in first.json]], first.next_path
        while at is not None:
            answer = await user.get(at)
            links.insert(0, [part["content"] for part in answer.json])
            at = answer.next_path
        assert links == pages


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("seed", range(4))
async def test_what_was_there_when_a_walk_began_is_met_once_while_more_arrives(user, run, order, seed):
    chance = random.Random(seed)
    numbers = [chance.randint(1, 6) for _ in range(12)]
    await user.post(home(run), json=parts_of(numbers))
    seen, mark, place = [], "", len(numbers)
    while page := (await user.get(f"{home(run)}?limit=2&order={order}{mark}")).json:
        seen += [part["content"] for part in page]
        mark = f"&after={page[-1]['id']}"
        if place < 30:  # later parts of old messages, and new messages
            await user.post(home(run), json=text(chance.randint(1, 12), content=str(place)))
            place += 1
    assert len(seen) == len(set(seen))
    assert {str(number) for number in range(12)} <= set(seen)


async def test_a_message_of_many_parts_comes_whole(user, run):
    parts = [*(text(1, content=str(number)) for number in range(10_100)), text(2, content="end")]
    assert (await user.post(home(run), data=io.BytesIO(msgspec.json.encode(parts)))).status == 201
    pages = await walk(user, home(run), "after", limit=1)
    assert [len(page) for page in pages] == [10_100, 1]
    assert [part["content"] for part in pages[0]] == [str(number) for number in range(10_100)]


async def test_an_erased_run_shows_no_messages_and_takes_none(user, run):
    key = {"Idempotency-Key": "k"}
    await user.post(home(run), json=text(1), headers=key)
    receipt = await user.service.app.ledger.append(run, "run.erased", {"reason": "asked"})
    await user.service.app.engine.wait_for(receipt.position)
    assert (await user.get(home(run))).status == 410
    check_shape(await user.post(home(run), json=text(2)), 410, "erased")


async def test_a_read_waits_for_the_position_that_it_names(user, run):
    answer = await user.post(home(run), json=text(1))
    found = await user.get(home(run), headers={"Ledger-Position": str(answer.position)})
    assert found.ids == [message_id(1)]
    check_shape(await user.get(home(run), headers={"Ledger-Position": "x"}), 422, "validation_error")


async def test_messages_survive_a_restart():
    with scratch() as folder:
        async with serving(folder / "l.db") as service:
            user = await service.user()
            run = await user.create("run")
            first = await user.post(home(run), json=[text(1), text(2)])
        async with serving(folder / "l.db") as service:
            user.service = service
            assert (await user.get(home(run))).body == first.body
