"""The log over HTTP, read: the feed of events, own rows only unless admin."""

import pytest

from ledger import ids

BATCH_TYPE = "application/cloudevents-batch+json"


async def test_the_feed_is_the_log_in_order_for_an_admin(admin, user):
    for kind in ("job", "run", "batch"):
        await user.create(kind)
    feed = (await admin.get("/v1/events?limit=1000")).json
    assert [one["position"] for one in feed] == list(range(1, admin.service.app.ledger.size + 1))
    assert {one["type"] for one in feed} >= {"access.granted", "job.created", "run.created", "batch.running"}


async def test_the_feed_of_a_user_has_their_own_rows_only_and_no_tokens(user, other):
    mine = [await user.create(), await user.create("run")]
    await other.create()
    batch = await user.create("batch")
    feed = (await user.get("/v1/events")).json
    assert {one["subject"] for one in feed} >= {*mine, batch}
    assert {one["actor"] for one in feed} == {user.id}
    assert not [one for one in feed if one["type"].startswith("access")]
    assert [one["position"] for one in feed] == sorted(one["position"] for one in feed)


async def test_the_feed_of_an_owner_has_what_others_did_to_their_rows_and_no_deleted_ones(user, admin):
    job, gone = await user.create(), await user.create()
    await admin.patch(f"/v1/jobs/{job}", json={"status": "pending"})
    await user.delete(f"/v1/jobs/{gone}")
    feed = (await user.get("/v1/events")).json
    assert [(one["type"], one["subject"], one["actor"]) for one in feed] == [
        ("job.created", job, user.id),
        ("job.pending", job, admin.id),
    ]
    assert [one["type"] for one in (await admin.get(f"/v1/events?subject={gone}")).json] == [
        "job.created",
        "job.deleted",
    ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("types=job.created", ["job.created"]),
        ("types=job.created,job.running", ["job.created", "job.running"]),
        ("types=job.running&types=run.created", ["job.running", "run.created"]),
        ("types=job.expired", []),
        ("subject={job}", ["job.created", "job.pending", "job.running"]),
        ("subject={job}&types=job.pending,run.created", ["job.pending"]),
        ("subject={run}", ["run.created"]),
        ("limit=2", ["job.created", "job.pending"]),
        ("after={second}", ["job.running", "run.created"]),
        ("after={second}&subject={job}", ["job.running"]),
        ("after={second}&limit=1", ["job.running"]),
        ("after=99999", []),
    ],
)
async def test_the_feed_filters_by_type_subject_and_position(user, query, expected):
    first = user.service.app.ledger.size
    job = await user.create(status="running")
    run = await user.create("run")
    answer = await user.get(f"/v1/events?{query.format(job=job, run=run, second=first + 2)}")
    assert answer.headers["Content-Type"] == BATCH_TYPE
    assert [one["type"] for one in answer.json] == expected


@pytest.mark.parametrize("query", ["", "&types=job.created&types=job.pending", "&subject={job}"])
async def test_links_lead_through_the_whole_feed_once_and_end_with_it(user, query):
    job, *_ = [await user.create(status="running") for _ in range(4)]
    query = query.format(job=job)
    whole = (await user.get(f"/v1/events?limit=1000{query}")).json
    seen, path, pages = [], f"/v1/events?limit=3{query}", 0
    while path:
        answer = await user.get(path)
        seen += answer.json
        path, pages = answer.next_path, pages + 1
    assert seen == whole
    assert pages == -(-len(whole) // 3)


async def test_a_feed_read_while_the_views_catch_up_leaves_no_gap(user, monkeypatch):
    """What a page does not show must come on a later one: a reader goes on after the last position it saw."""
    # given a server whose views stand still while the log grows
    app = user.service.app
    monkeypatch.setattr("server.routes.log.SCAN", 1)
    start = app.ledger.size
    app.engine._task.cancel()
    made = [ids.make("job") for _ in range(2)]
    for job in made:
        await app.ledger.append(job, "job.created", {"user_id": user.id}, actor=user.id)
    scan = app.ledger.store.scan

    async def slow_scan(after, *asked):
        if after == start + 1:
            await app.engine.catch_up()
        return await scan(after, *asked)

    monkeypatch.setattr(app.ledger.store, "scan", slow_scan)
    # when the views catch up in the middle of a page
    seen = [one["subject"] for one in (await user.get(f"/v1/events?after={start}")).json]
    # then
    assert seen in ([], made[:1], made)
