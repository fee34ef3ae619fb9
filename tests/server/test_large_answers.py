"""What is too large to be read or answered at once: it comes in pages, or is refused, and memory has a bound."""

import pytest

from projections import patience, views
from server.admission import LARGE, Answers
from server.routes import eventpage, resources
from server.routes import log as log_routes
from tests.server.raw import head
from tests.server.serving import serving, until
from tests.server.test_connections import Time, tight

MIB = 1024 * 1024
TEXT = "x" * 400_000


@pytest.fixture
async def service(ledger_file, clock):
    """A server that reads no history of more than a MiB at once, and holds large answers of three."""
    async with serving(ledger_file, clock, history_size_max=MIB, answers_size_max=3 * MIB) as service:
        yield service


async def talk(user, count, text=TEXT):
    """The id of a run in which so much was said."""
    run = await user.create("run")
    for _ in range(count):
        said = {"message_type": "assistant_message", "content": text}
        assert (await user.post(f"/v1/runs/{run}/messages", json=said)).status == 201
    return run


async def all_pages(user, path):
    """What all pages hold, one after the other as their Links lead, and how many there were."""
    found, pages = [], 0
    while path:
        answer = await user.get(path)
        assert answer.status == 200, answer.body
        found += answer.json
        pages += 1
        path = answer.next_path
    return found, pages


@pytest.mark.parametrize("path", ["/v1/runs/{}/report", "/v1/runs/{}/trace", "/v1/runs/diff?a={}&b={}"])
async def test_a_history_is_read_as_a_whole_up_to_a_bound_and_refused_beyond_it(user, path):
    short, long = await talk(user, 2), await talk(user, 3)
    assert (await user.get(path.format(short, short))).status == 200
    answer = await user.get(path.format(long, long))
    assert (answer.status, answer.error["type"]) == (400, "invalid_request")
    assert f"The history of '{long}' has 1 MiB or more" in answer.error["message"]
    assert (await user.get(f"/v1/runs/{long}/messages")).status == 200


async def test_the_past_of_a_run_and_a_repeated_key_need_nothing_of_what_was_said_in_it(service, user):
    run = await talk(user, 3)
    changed = {"json": {"metadata": {"a": 1}}, "headers": {"Idempotency-Key": "k"}}
    first = await user.patch(f"/v1/runs/{run}", **changed)
    then = service.app.ledger.size
    await user.patch(f"/v1/runs/{run}", json={"metadata": {"a": 2}})
    again = await user.patch(f"/v1/runs/{run}", **changed)
    assert (again.status, again.json) == (first.status, first.json)
    assert (await user.get(f"/v1/runs/{run}?as_of={then}")).json["metadata"] == {"a": 1}


async def test_pages_of_events_end_early_where_events_are_large_and_their_links_lead_to_all_of_them(user, monkeypatch):
    for module in (eventpage, log_routes, resources):
        monkeypatch.setattr(module, "PAGE_SIZE_MAX", 2500)
    run = await talk(user, 9, "x" * 1000)
    for path in (f"/v1/runs/{run}/events?limit=100", f"/v1/events?limit=100&subject={run}", "/v1/events?limit=100"):
        found, pages = await all_pages(user, path)
        of_run = [event["streamversion"] for event in found if event["subject"] == run]
        assert of_run == [*range(1, 11)], path
        assert pages >= 3, path


async def test_a_page_of_rows_is_refused_where_they_are_too_large_together_and_a_smaller_one_is_not(user, monkeypatch):
    monkeypatch.setattr(patience, "SIZE_MAX", 2 * MIB)
    monkeypatch.setattr(views, "QUICK_SIZE_MAX", MIB)
    jobs = [await user.create(metadata={"text": TEXT}) for _ in range(8)]
    run = await talk(user, 8)
    for path in ("/v1/jobs?limit={}", f"/v1/runs/{run}/messages?limit={{}}"):
        answer = await user.get(path.format(100))
        assert (answer.status, answer.error["type"]) == (400, "invalid_request"), path
        assert "has more than 2 MiB" in answer.error["message"]
        assert "smaller `limit`" in answer.error["message"]
        assert len((await user.get(path.format(3))).json) == 3
    assert len(jobs) == 8


async def test_a_page_that_is_too_large_for_the_event_loop_is_read_beside_it(service, user, monkeypatch):
    monkeypatch.setattr(views, "QUICK_SIZE_MAX", 1000)
    read = []
    slowly = service.app.views._read_slowly
    monkeypatch.setattr(service.app.views, "_read_slowly", lambda *asked: read.append(asked) or slowly(*asked))
    jobs = {await user.create(metadata={"text": "x" * 600}) for _ in range(4)}
    assert {job["id"] for job in (await user.get("/v1/jobs")).json} == jobs
    assert len(read) == 1


async def test_large_answers_that_clients_do_not_take_are_held_up_to_a_bound(service, user):
    # given: two clients who ask for an answer of more than a MiB each, and take nothing
    time = Time(service.app)
    job = await user.create(metadata={"text": "x" * 600_000})
    await user.patch(f"/v1/jobs/{job}", json={"metadata": {"more": "x" * 600_000}})
    path, held = f"/v1/jobs/{job}", service.app.answers
    assert held.size == 0  # the answer to the change was large, too, and was taken
    async with tight(service) as (first, _):
        async with tight(service) as (second, _):
            for raw in (first, second):
                await raw.send(head("GET", path, user.token))
            await until(lambda: held.size > 2 * MIB)
            # when a third one asks for it
            answer = await user.get(path)
            # then that one is told to come again, and small ones are answered
            assert (answer.status, answer.error["type"]) == (503, "unavailable")
            assert answer.headers["Retry-After"] == "5"
            assert "large answers to other requests" in answer.error["message"]
            assert (await user.get("/v1/runs")).status == 200
        # and once a client has gone there is room again
        await until(lambda: held.size < 2 * MIB)
        assert (await user.get(path)).status == 200
        # and what was taken is let go of, at the latest with the next beat
        time.passes(1)
        await until(lambda: held.size < 2 * MIB)
    await until(lambda: not held.size)


async def test_histories_that_are_read_at_once_have_the_same_bound_and_give_it_back(service, user, monkeypatch):
    run = await talk(user, 2)
    service.app.answers.take(3 * MIB)
    answer = await user.get(f"/v1/runs/{run}/report")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    service.app.answers.give_back(3 * MIB)
    assert (await user.get(f"/v1/runs/{run}/report")).status == 200
    assert service.app.answers.size == 0


def test_one_large_answer_alone_may_always_be_made():
    answers = Answers(size_max=10 * LARGE)
    assert answers.take(LARGE - 1) == 0
    assert answers.take(20 * LARGE) == 20 * LARGE
    answers.give_back(20 * LARGE)
    assert answers.size == 0
