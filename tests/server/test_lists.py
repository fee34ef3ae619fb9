"""Lists: order, cursors, limits and links, so that paging to the end yields every row once (contract 3)."""

import asyncio
from itertools import chain

import pytest

from ledger import ids
from tests.server.serving import HOME

LISTS = ["/v1/jobs/", "/v1/runs/", "/v1/messages/batches"]
KINDS = dict(zip(LISTS, ("job", "run", "batch"), strict=True))


async def rows(user, kind, count, *, same_time=False):
    """Make resources, one microsecond apart or all at once; return their ids, oldest first by (created_at, id)."""
    made = []
    for _ in range(count):
        user.service.clock.now_us += 0 if same_time else 1
        made.append(await user.create(kind))
    return sorted(made) if same_time else made


async def walk(user, path, cursor, order, limit):
    """Page by a cursor to the end; return all ids as they came, in the asked order within each page."""
    pages: list[list[str]] = []
    last = None
    while True:
        query = f"?limit={limit}&order={order}" + (f"&{cursor}={last}" if last else "")
        page = (await user.get(path + query)).ids
        if not page:
            return pages
        pages.append(page)
        last = page[-1] if cursor == "after" else page[0]


@pytest.mark.parametrize("same_time", [False, True])
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("path", LISTS)
async def test_paging_after_the_last_id_yields_every_row_once_in_order(user, path, order, same_time):
    made = await rows(user, KINDS[path], 7, same_time=same_time)
    pages = await walk(user, path, "after", order, 3)
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [*chain(*pages)] == (made if order == "asc" else made[::-1])


@pytest.mark.parametrize("same_time", [False, True])
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("path", LISTS)
async def test_paging_before_the_first_id_yields_the_nearest_rows_in_the_asked_order(user, path, order, same_time):
    # given a cursor in the asked order's last row
    made = await rows(user, KINDS[path], 8, same_time=same_time)
    ordered = made if order == "asc" else made[::-1]
    # when
    pages, first = [], ordered[-1]
    while page := (await user.get(f"{path}?order={order}&limit=3&before={first}")).ids:
        pages.append(page)
        first = page[0]
    # then
    assert pages == [ordered[4:7], ordered[1:4], ordered[:1]]


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize(("after", "before", "limit", "expected"), [
    (1, 5, 10, slice(2, 5)),
    (1, 5, 2, slice(2, 4)),
    (None, 3, 10, slice(0, 3)),
    (0, 6, 3, slice(1, 4)),
    (2, 3, 10, slice(0, 0)),
    (4, 2, 10, slice(0, 0)),
    (3, 3, 10, slice(0, 0)),
])  # fmt: skip
async def test_both_cursors_together_are_the_range_between(user, order, after, before, limit, expected):
    made = await rows(user, "job", 7)
    ordered = made if order == "asc" else made[::-1]
    query = "".join(f"&{name}={ordered[at]}" for name, at in (("after", after), ("before", before)) if at is not None)
    assert (await user.get(f"/v1/jobs/?order={order}&limit={limit}{query}")).ids == ordered[expected]


@pytest.mark.parametrize("query", ["", "&order=asc", "&order=desc"])
@pytest.mark.parametrize("path", [*LISTS, "/v1/_internal_runs/", "/api/jobs", "/v1/jobs/active", "/v1/runs/active"])
async def test_the_next_links_lead_through_every_row_once(user, path, query):
    # given
    kind = "batch" if "batches" in path else "run" if "runs" in path else "job"
    made = await rows(user, kind, 6)
    # when
    seen, url, pages = [], f"{path}?limit=3{query}", 0
    while url:
        answer = await user.get(url)
        seen += answer.ids
        url, pages = answer.next_path, pages + 1
    # then
    assert sorted(seen) == sorted(made)
    assert pages == 2


async def test_the_next_link_keeps_every_parameter_of_the_request(user):
    await rows(user, "run", 5)
    first = await user.get("/v1/runs/?agent_ids=agent-1&agent_ids=x%26y%2B%E2%82%AC&statuses=created&limit=2&order=asc")
    second = await user.get(first.next_path)
    assert len(second.ids) == 2
    assert not {*first.ids} & {*second.ids}
    for part in ("agent_ids=agent-1", "agent_ids=x%26y%2B%E2%82%AC", "statuses=created", "limit=2", "order=asc"):
        assert part in second.next_path


async def test_the_next_link_of_a_before_page_goes_on_backwards(user):
    made = await rows(user, "job", 6)
    answer = await user.get(f"/v1/jobs/?order=asc&limit=2&before={made[5]}")
    assert answer.ids == made[3:5]
    answer = await user.get(answer.next_path)
    assert answer.ids == made[1:3]
    answer = await user.get(answer.next_path)
    assert (answer.ids, answer.next_path) == (made[:1], None)


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("kind", ["job", "run"])
async def test_paging_while_another_client_creates_neither_skips_nor_repeats_a_row(user, clock, kind, order):
    # given
    clock.step_us = 1
    made = await rows(user, kind, 40)
    stop, fresh = asyncio.Event(), []

    async def produce():
        while not stop.is_set():
            fresh.append(await user.create(kind))

    # when
    producer = asyncio.create_task(produce())
    seen, last = [], None
    while True:
        page = (await user.get(f"{HOME[kind]}?limit=3&order={order}" + (f"&after={last}" if last else ""))).ids
        seen += page
        if not page or (order == "asc" and len(seen) > 80):
            break
        last = page[-1]
    stop.set()
    await producer
    # then
    assert len(seen) == len(set(seen))
    assert [row for row in seen if row in made] == (made if order == "asc" else made[::-1])
    assert fresh


@pytest.mark.parametrize("cursor", ["after", "before"])
@pytest.mark.parametrize("path", [*LISTS, "/v1/jobs/?job_type=run", "/v1/jobs/active", "/v1/runs/active"])
class TestCursorsThatNameNoRow:
    async def test_an_unknown_id_is_a_bad_request(self, user, path, cursor):
        unknown = ids.make("run" if "run" in path else "job")
        answer = await user.get(f"{path}{'&' if '?' in path else '?'}{cursor}={unknown}")
        assert (answer.status, answer.error["type"]) == (400, "invalid_request")
        assert answer.headers["x-should-retry"] == "false"

    async def test_a_row_of_another_user_is_as_unknown_as_none(self, user, other, path, cursor):
        kind = "run" if "run" in path else KINDS.get(path, "job")
        theirs = await other.create(kind)
        answer = await user.get(f"{path}{'&' if '?' in path else '?'}{cursor}={theirs}")
        unknown = await user.get(f"{path}{'&' if '?' in path else '?'}{cursor}={(none := ids.make(theirs[:3]))}")
        assert answer.status == 400
        assert answer.error["message"].replace(theirs, none) == unknown.error["message"]

    @pytest.mark.parametrize("value", ["", "x", "job-1", "JOB-6F9C0000-0000-4000-8000-000000000000", "%00"])
    async def test_what_is_no_id_is_a_validation_error(self, user, path, cursor, value):
        answer = await user.get(f"{path}{'&' if '?' in path else '?'}{cursor}={value}")
        assert (answer.status, answer.error["type"]) == (422, "validation_error")
        assert answer.error["details"][0]["where"] == cursor


async def test_a_deleted_row_still_serves_as_a_cursor(user):
    made = await rows(user, "job", 5)
    await user.delete(f"/v1/jobs/{made[2]}")
    assert (await user.get(f"/v1/jobs/?order=asc&after={made[2]}")).ids == made[3:]
    assert (await user.get(f"/v1/jobs/?order=asc&before={made[2]}")).ids == made[:2]
    assert (await user.get(f"/v1/jobs/?order=desc&after={made[2]}")).ids == made[1::-1]


async def test_a_row_that_the_filter_no_longer_shows_still_serves_as_a_cursor(user):
    made = await rows(user, "run", 5)
    await user.patch(f"/v1/runs/{made[2]}", json={"status": "failed"})
    assert (await user.get(f"/v1/runs/?active=true&order=asc&after={made[2]}")).ids == made[3:]


@pytest.mark.parametrize(
    ("query", "newest_first"),
    [
        ("", True),
        ("?order=desc", True),
        ("?order=asc", False),
        ("?ascending=true", False),
        ("?ascending=false", True),
        ("?order=desc&ascending=true", True),
        ("?order=asc&ascending=false", False),
        ("?order_by=created_at", True),
    ],
)
@pytest.mark.parametrize("path", [*LISTS, "/v1/jobs/active", "/v1/runs/active"])
async def test_newest_first_unless_asked_and_active_lists_oldest_first(user, path, query, newest_first):
    kind = "batch" if "batches" in path else "run" if "runs" in path else "job"
    made = await rows(user, kind, 3)
    if path.endswith("active") and "order=" not in query and "ascending" not in query:
        newest_first = False
    assert (await user.get(path + query)).ids == (made[::-1] if newest_first else made)


async def test_active_means_created_or_running_and_pending_is_found_by_its_status(user):
    made = {status: await user.create(status=status) for status in ("created", "pending", "running", "completed")}
    active = sorted([made["created"], made["running"]])
    for path in ("/v1/jobs/?active=true", "/v1/jobs/active", "/api/jobs/active", "/api/jobs?active=true"):
        assert sorted((await user.get(path)).ids) == active
    assert (await user.get("/v1/jobs/?status=pending")).ids == [made["pending"]]
    assert len((await user.get("/v1/jobs/?active=false")).ids) == 4
    assert (await user.get("/v1/jobs/?active=true&status=pending")).ids == []


@pytest.mark.parametrize(("query", "count"), [("", 100), ("?limit=1", 1), ("?limit=101", 101), ("?limit=1000", 120)])
async def test_a_page_has_100_rows_unless_asked_and_an_active_page_50(user, query, count):
    await asyncio.gather(*(user.create("run") for _ in range(120)))
    assert len((await user.get(f"/v1/runs/{query}")).ids) == count
    assert len((await user.get("/v1/runs/active")).ids) == 50


@pytest.mark.parametrize("value", ["0", "-1", "1001", "x", "", "1.0", "%2B5", "9" * 30, "%D9%A3"])
@pytest.mark.parametrize("path", [*LISTS, "/v1/jobs/active", "/v1/events"])
async def test_a_limit_is_an_integer_from_1_to_1000(user, path, value):
    answer = await user.get(f"{path}?limit={value}")
    assert answer.status == 422
    assert answer.error["details"][0]["where"] == "limit"


async def test_a_list_read_during_a_write_is_not_kept_as_the_answer_for_later(user, monkeypatch):
    """A long read ends after a write that it did not see; later requests must see that write."""
    # given a list that takes long, and a write (seen by another read) before it is answered
    monkeypatch.setattr("projections.views.READ_INTERVAL_S", -1.0)
    views, made = user.service.app.views, [await user.create()]
    real = views.read

    async def slow(*asked):
        found = await real(*asked)
        monkeypatch.setattr(views, "read", real)
        made.append(await user.create())
        assert (await user.get(f"/v1/jobs/{made[1]}")).status == 200
        return found

    monkeypatch.setattr(views, "read", slow)
    # when
    await user.get("/v1/jobs/")
    # then
    assert sorted((await user.get("/v1/jobs/")).ids) == sorted(made)
