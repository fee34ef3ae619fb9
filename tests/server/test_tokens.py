"""Tokens: which let in, when they end, who makes them, and that nobody else ever sees one."""

import pytest

from ledger import ids, tokens
from ledger.ids import SYSTEM_USER
from ledger.ledger import Ledger
from ledger.sqlite import SqliteStore
from server.app import App
from server.config import Config
from server.grants import revoke
from server.serve import say_first_token
from tests.server.serving import User, serving
from tests.server.test_errors import check_shape


def with_header(user, value):
    return user.service.request("GET", "/v1/jobs/", headers={"Authorization": value})


@pytest.mark.parametrize("value", [
    "", "Bearer", "Bearer ", "{token}", "Basic {token}", "Bearer  {token}", "Bearer {token} ", "Bearer {token}x",
    "Bearer x{token}", "Bearer {short}", "Bearer {mistyped}", "Bearer {upper}", "Bearer {unknown}", "Bearer jl_",
    "Token {token}",
])  # fmt: skip
async def test_anything_but_a_token_in_force_is_unauthorized(user, value):
    token = user.token
    swapped = token[:5] + ("A" if token[5] != "A" else "B") + token[6:]
    known = {"token": token, "short": token[:-1], "mistyped": swapped, "upper": token.upper(), "unknown": tokens.mint()}
    if value == "Bearer {token} ":
        value = "Bearer {token}\u00a0"
    answer = await with_header(user, value.format(**known))
    check_shape(answer, 401, "unauthorized")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert token not in answer.body.decode()


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_may_be_written_in_any_case(user, scheme):
    assert (await with_header(user, f"{scheme} {user.token}")).status == 200


async def test_a_token_ends_at_its_time(service, clock):
    user = await service.user(days=1)
    clock.advance(86_399.999999)
    assert (await user.get("/v1/jobs/")).status == 200
    clock.advance(0.000001)
    check_shape(await user.get("/v1/jobs/"), 401, "unauthorized")


async def test_a_revoked_token_ends_at_once_and_the_users_other_tokens_stay(service, admin, user):
    second = await service.user(id=user.id)
    assert (await user.get("/v1/jobs/")).status == 200
    assert (await admin.delete(f"/v1/tokens/{user.token_id}")).status == 200
    check_shape(await user.get("/v1/jobs/"), 401, "unauthorized")
    check_shape(await user.post("/v1/jobs/", json={}), 401, "unauthorized")
    assert (await second.get("/v1/jobs/")).status == 200


async def test_a_token_that_another_process_revokes_ends_with_the_next_request(user, ledger_file):
    user.service.app.notice_interval_s = 0.0
    assert (await user.get("/v1/jobs/")).status == 200
    async with Ledger.open(ledger_file, clock=user.service.clock) as elsewhere:
        await revoke(elsewhere, user.token_id, actor=SYSTEM_USER)
        check_shape(await user.get("/v1/jobs/"), 401, "unauthorized")


async def test_a_token_that_another_process_makes_and_revokes_is_noticed_without_any_request(service, ledger_file):
    async with serving(ledger_file, service.clock) as elsewhere:
        there = await elsewhere.user()
        here = User(service, there.id, there.token)
        await service.app.ledger.wait_beyond(elsewhere.app.ledger.size - 1)
        assert (await here.get("/v1/jobs/")).status == 200
        await revoke(elsewhere.app.ledger, there.token_id, actor=SYSTEM_USER)
        await service.app.ledger.wait_beyond(elsewhere.app.ledger.size - 1)
        check_shape(await here.get("/v1/jobs/"), 401, "unauthorized")


async def test_tokens_hold_over_a_restart_and_so_do_revocations(ledger_file, clock):
    async with serving(ledger_file, clock) as service:
        kept, gone = await service.user(), await service.user()
        await revoke(service.app.ledger, gone.token_id, actor=SYSTEM_USER)
    async with serving(ledger_file, clock) as service:
        assert (await User(service, kept.id, kept.token).get("/v1/jobs/")).status == 200
        assert (await User(service, gone.id, gone.token).get("/v1/jobs/")).status == 401


async def test_a_token_that_is_made_while_a_server_starts_puts_none_out_of_force(ledger_file, clock, monkeypatch):
    async with serving(ledger_file, clock) as service:
        before = await service.user()
        meanwhile = []

        # given another server, which reads who may do what while one more token is made, and hears of that first
        async def scan(store, *asked, **more):
            found = await real(store, *asked, **more)
            if not meanwhile and asked[2:] and "access.granted" in asked[2]:
                meanwhile.append(await service.user())
                await app.ledger.refresh(surely=True)
            return found

        real = SqliteStore.scan
        monkeypatch.setattr(SqliteStore, "scan", scan)
        app = App(Config(db=ledger_file, callbacks=False), clock=clock)
        await app.open()
        # then it knows both
        now_us = clock()
        assert [app.access.find(user.token, now_us) is not None for user in (before, *meanwhile)] == [True, True]
        await app.close()


async def test_the_first_token_is_made_and_said_once(ledger_file, clock):
    said: list[str] = []
    async with serving(ledger_file, clock) as service, serving(ledger_file, clock) as second:
        await say_first_token(service.app.ledger, said.append)
        await say_first_token(service.app.ledger, said.append)
        await say_first_token(second.app.ledger, said.append)
        (line,) = said
        token = line.rpartition(" ")[2]
        assert tokens.is_well_formed(token)
        admin = User(service, SYSTEM_USER, token)
        assert [row["scopes"] for row in (await admin.get("/v1/tokens")).json] == [["read", "write", "admin"]]


async def test_a_ledger_that_is_in_use_gets_no_first_token(user):
    said: list[str] = []
    await say_first_token(user.service.app.ledger, said.append)
    assert said == []


async def test_tokens_are_made_listed_and_revoked_by_admins(admin, clock):
    # when
    holder = ids.make("user")
    body = {"user_id": holder, "scopes": ["write", "read", "read"], "project_id": "p", "expires_days": 1}
    made = await admin.post("/v1/tokens", json=body)
    # then
    shown = made.json
    assert made.status == 201
    token = shown.pop("token")
    assert tokens.is_well_formed(token)
    assert shown == {
        "id": shown["id"],
        "user": holder,
        "scopes": ["read", "write"],
        "project": "p",
        "granted_at": "2026-11-22T00:00:00.000000Z",
        "granted_by": admin.id,
        "expires_at": "2026-11-23T00:00:00.000000Z",
    }
    assert shown in (await admin.get("/v1/tokens")).json
    assert (await User(admin.service, holder, token).get("/v1/jobs/")).status == 200
    assert (await admin.delete(f"/v1/tokens/{shown['id']}")).json == shown
    assert shown not in (await admin.get("/v1/tokens")).json
    check_shape(await admin.delete(f"/v1/tokens/{shown['id']}"), 404, "not_found")


@pytest.mark.parametrize("body", [
    {"scopes": []}, {"scopes": ["root"]}, {"scopes": "read"}, {"user_id": "me"}, {"expires_days": 0},
    {"expires_days": -1},
    {"expires_days": 1e9}, {"project_id": ""}, {"project_id": "a\u0000"}, {"token": "jl_x"},
])  # fmt: skip
async def test_a_token_needs_known_scopes_a_user_and_a_time_to_come(admin, body):
    before = admin.service.app.ledger.size
    check_shape(await admin.post("/v1/tokens", json=body), 422, "validation_error")
    assert admin.service.app.ledger.size == before


async def test_a_token_is_never_shown_again_neither_in_answers_nor_in_the_log_nor_on_stderr(
    admin, log_lines, ledger_file
):
    # given a token that is used well and badly
    made = (await admin.post("/v1/tokens", json={})).json
    token = made["token"]
    holder = User(admin.service, made["user"], token)
    await holder.get("/v1/jobs/x")
    await holder.get(f"/v1/jobs/?token={token}")
    await with_header(holder, f"Bearer {token}x")
    await with_header(holder, f"Basic {token}")
    # when
    answers = [await admin.get(path) for path in ("/v1/tokens", "/v1/events?limit=1000", "/v1/ledger")]
    # then
    assert all(token.encode() not in answer.body for answer in answers)
    assert token.encode() not in log_lines.getvalue()
    files = [path.read_bytes() for path in ledger_file.parent.iterdir() if path.is_file()]
    assert all(token.encode() not in content for content in files)
    assert any(tokens.digest(token).encode() in content for content in files)
