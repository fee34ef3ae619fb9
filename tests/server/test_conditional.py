"""Versions and positions in headers: ETag, If-None-Match, If-Match, Ledger-Position."""

import asyncio

import pytest

from tests.server.serving import HOME, Clock, serving, until


async def test_an_etag_is_the_version_of_the_last_change(user):
    job = await user.create()
    for number, body in enumerate(({"metadata": {}}, {"status": "pending"}, {"status": "running"}), 2):
        answer = await user.patch(f"/v1/jobs/{job}", json=body)
        assert answer.etag == f'"{number}"'
        assert (await user.get(f"/v1/jobs/{job}")).etag == f'"{number}"'


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ('"3"', 304),
        ('W/"3"', 304),
        ("*", 304),
        ('"1", "3"', 304),
        ('"1",W/"3"', 304),
        ('"2"', 200),
        ('"33"', 200),
        ("3", 200),
        ("garbage", 200),
        ("", 200),
    ],
)
@pytest.mark.parametrize("as_of", ["", "?as_of={size}"])
async def test_if_none_match_answers_304_without_a_body_when_the_client_has_it(user, header, status, as_of):
    # given
    job = await user.create(status="running")
    path = f"/v1/jobs/{job}{as_of.format(size=user.service.app.ledger.size)}"
    # when
    answer = await user.get(path, headers={"If-None-Match": header})
    # then
    assert answer.status == status
    assert answer.etag == '"3"'
    assert (answer.body == b"") == (status == 304)
    assert "X-Request-Id" in answer.headers


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ('"3"', 200),
        ("*", 200),
        ('"1", "3"', 200),
        ('"3","4"', 200),
        ('"2"', 412),
        ('W/"3"', 412),
        ('"1", "2"', 412),
        ('"x"', 412),
        ('""', 412),
        ('"03"', 412),
        ("3", 422),
        ("garbage", 422),
        ('"3', 422),
        ('"3" or so', 422),
        (f'"{"9" * 6000}"', 412),
    ],
)
@pytest.mark.parametrize(
    ("method", "tail", "body"),
    [("PATCH", "", {"metadata": {"a": 1}}), ("PATCH", "/cancel", None), ("DELETE", "", None)],
)
async def test_if_match_lets_a_change_through_for_the_current_version_only(user, method, tail, body, header, status):
    # given
    job = await user.create(status="running")
    before = await user.get(f"/v1/jobs/{job}")
    # when
    answer = await user.request(method, f"/v1/jobs/{job}{tail}", json=body, headers={"If-Match": header})
    # then
    assert answer.status == status, answer.body
    if status != 200:
        assert (await user.get(f"/v1/jobs/{job}")).body == before.body
        assert len(await user.log(job)) == 3
    if status == 412:
        assert answer.error["type"] == "version_mismatch"
        assert answer.error["details"]["current"] == 3


async def test_if_match_may_come_in_several_header_lines(user):
    job = await user.create(status="running")
    reader, writer = await asyncio.open_connection("127.0.0.1", user.service.port)
    lines = [f"PATCH /v1/jobs/{job}/cancel HTTP/1.1", "Host: x", f"Authorization: Bearer {user.token}"]
    lines += ['If-Match: "1"', 'If-Match: "3"', "Content-Length: 0", "Connection: close", "", ""]
    writer.write("\r\n".join(lines).encode())
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200"), answer


async def test_of_many_changes_for_one_version_exactly_one_gets_through(user):
    job = await user.create()
    changes = (
        user.patch(f"/v1/jobs/{job}", json={"metadata": {"winner": number}}, headers={"If-Match": '"1"'})
        for number in range(50)
    )
    answers = await asyncio.gather(*changes)
    winners = [number for number, answer in enumerate(answers) if answer.status == 200]
    assert sorted({answer.status for answer in answers}) == [200, 412]
    assert [(await user.get(f"/v1/jobs/{job}")).json["metadata"]] == [{"winner": number} for number in winners]


async def test_every_write_answers_with_its_position_and_reads_after_it_see_it(user):
    job = (created := await user.post("/v1/jobs/", json={"status": "pending"})).json["id"]
    positions = [created.position]
    bodies = ({"status": "running"}, {"metadata": {"a": 1}})
    positions += [(await user.patch(f"/v1/jobs/{job}", json=body)).position for body in bodies]
    positions.append((await user.patch(f"/v1/jobs/{job}/cancel")).position)
    positions.append((await user.delete(f"/v1/jobs/{job}")).position)
    size = user.service.app.ledger.size
    assert positions == list(range(size - 4, size + 1))


async def test_a_refusal_names_the_position_at_which_it_is_recorded(user):
    job = await user.create()
    answer = await user.patch(f"/v1/jobs/{job}/cancel")
    assert (answer.status, answer.position) == (409, user.service.app.ledger.size)


READS = [
    "/v1/jobs/{job}", "/v1/jobs/", "/v1/jobs/active", "/v1/runs/", "/v1/messages/batches", "/v1/jobs/{job}/events",
    "/v1/events", "/v1/jobs/{job}?as_of=2",
]  # fmt: skip


@pytest.mark.parametrize("path", READS)
@pytest.mark.parametrize("value", ["x", "-1", "", "9" * 5000, "\u0663"])
async def test_a_position_that_is_none_is_refused_on_every_read(user, path, value):
    job = await user.create()
    answer = await user.get(path.format(job=job), headers={"Ledger-Position": value})
    assert answer.status == 422
    assert answer.error["details"][0]["where"] == "header Ledger-Position"


@pytest.mark.parametrize("path", READS)
async def test_a_read_waits_for_its_position_only_so_long(ledger_file, path):
    async with serving(ledger_file, wait_timeout_s=0.01) as service:
        user = await service.user()
        job = await user.create()
        path = path.format(job=job)
        assert (await user.get(path, headers={"Ledger-Position": str(service.app.ledger.size)})).status == 200
        answer = await user.get(path, headers={"Ledger-Position": str(service.app.ledger.size + 1)})
        assert (answer.status, answer.error["type"]) == (503, "unavailable")
        assert "Retry-After" in answer.headers


async def test_a_read_waits_until_the_views_have_its_position(user):
    # given
    job = await user.create()
    position = user.service.app.ledger.size + 1
    # when a read asks for a position before that is written
    read = asyncio.create_task(user.get(f"/v1/jobs/{job}", headers={"Ledger-Position": str(position)}))
    await until(lambda: user.service.app.engine._waiters)
    assert not read.done()
    await user.patch(f"/v1/jobs/{job}", json={"metadata": {"seen": True}})
    # then
    assert (await read).json["metadata"] == {"seen": True}


async def test_a_position_carries_a_write_from_one_server_to_another(ledger_file):
    clock = Clock()
    async with serving(ledger_file, clock) as first, serving(ledger_file, clock) as second:
        here = await first.user()
        there = type(here)(second, here.id, here.token)
        for kind in ("job", "run"):
            created = await here.post(HOME[kind], json={"agent_id": "a"})
            seen = {"Ledger-Position": str(created.position)}
            read = await there.get(f"{HOME[kind]}{created.json['id']}", headers=seen)
            assert (read.status, read.body) == (200, created.body)
            listed = await there.get(HOME[kind], headers=seen)
            assert listed.ids == [created.json["id"]]
