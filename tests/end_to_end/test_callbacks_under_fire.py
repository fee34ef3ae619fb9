"""Callbacks of real servers in processes of their own: killed, started again, two on one file, stopped."""

import asyncio
import json
from contextlib import asynccontextmanager

from ledger import Ledger, ids
from tests.cli.commandline import in_a_process
from tests.end_to_end.server_process import client, serve
from tests.end_to_end.under_fire import Fire, owed, zoo
from tests.server.callbacks.zoo import read_journal

ALLOWED = ("--callback-allow", "127.0.0.0/8", "--callback-schedule", "0.2,0.2,0.2")
PATIENCE_S = 60.0


async def test_nothing_owed_is_lost_and_all_of_it_ends_by_rule_while_servers_are_killed(tmp_path):
    """The bounded share of ``scripts/under-fire``, which checks the rest of what must be true."""
    found = await Fire(tmp_path, 120, 2, seed=5).run()
    assert found["delivered"] + found["abandoned"] == 120
    assert found["repeats"] > 0


@asynccontextmanager
async def receivers(tmp_path):
    journal = tmp_path / "arrivals.jsonl"
    async with zoo(journal) as urls:
        yield urls, lambda: read_journal(journal)


async def end(server, token, urls, count):
    """End so many jobs with callbacks to a good receiver."""
    made = [ids.make("job") for _ in range(count)]
    async with client(server, token) as session:
        for id in made:
            body = {"id": id, "status": "completed", "callback_url": urls["good"]}
            async with session.post("/v1/jobs/", json=body) as response:
                assert response.status == 201, await response.text()
    return made


async def settled(db):
    async with asyncio.timeout(PATIENCE_S):
        while owed(db):
            await elapsed(0.05)


async def elapsed(seconds):
    """Let another process go on for a moment."""
    try:
        await asyncio.wait_for(asyncio.Event().wait(), seconds)
    except TimeoutError:
        return


async def test_two_servers_on_one_file_send_each_callback_once_and_one_goes_on_when_the_other_dies(
    tmp_path,
):
    db = tmp_path / "ledger.db"
    async with receivers(tmp_path) as (urls, arrivals), serve(db, *ALLOWED) as first, serve(db, *ALLOWED) as second:
        made = await end(first, first.token, urls, 40) + await end(second, first.token, urls, 40)
        await settled(db)
        assert sorted(json.loads(each.body)["job_id"] for each in arrivals()) == sorted(made)
        await first.kill()
        more = await end(second, first.token, urls, 10)
        await settled(db)
        assert sorted(json.loads(each.body)["job_id"] for each in arrivals()) == sorted(made + more)


async def test_a_clean_stop_records_what_it_cuts_off_and_the_next_server_sends_it_again(tmp_path):
    db = tmp_path / "ledger.db"
    async with receivers(tmp_path) as (urls, arrivals):
        async with serve(db, *ALLOWED) as server:
            (id,) = await end(server, server.token, {"good": urls["stall"]}, 1)
            async with asyncio.timeout(PATIENCE_S):
                while not arrivals():
                    await elapsed(0.05)
            assert await server.stop() == 0
        async with Ledger.open(db, read_only=True) as ledger:
            attempts = [event for event in await ledger.read(id) if event.type == "callback.attempted"]
        assert [json.loads(event.data)["error"] for event in attempts] == ["interrupted"]
        async with serve(db, *ALLOWED):
            async with asyncio.timeout(PATIENCE_S):
                while len(arrivals()) < 2:
                    await elapsed(0.05)
        assert len({each.webhook_id for each in arrivals()}) == 1


@asynccontextmanager
async def settled_history(tmp_path):
    """A ledger with a callback delivered and one given up; what has arrived so far, and where more may go."""
    db = tmp_path / "ledger.db"
    async with receivers(tmp_path) as (urls, arrivals):
        async with serve(db, *ALLOWED) as server:
            made = await end(server, server.token, urls, 1) + await end(server, server.token, {"good": urls["gone"]}, 1)
            await settled(db)
        assert len(arrivals()) == 2
        yield db, server.token, made, urls, lambda: len(arrivals())


async def run(*arguments):
    done = await asyncio.to_thread(in_a_process, *arguments)
    assert done.code == 0, done
    return done


async def test_a_rebuild_sends_nothing_beside_a_running_server_nor_before_its_next_start(tmp_path):
    async with settled_history(tmp_path) as (db, token, _, urls, arrived):
        async with serve(db, *ALLOWED) as server:
            await run("rebuild", "--db", db)
            await end(server, token, urls, 1)
            await settled(db)
            assert arrived() == 3
        await run("rebuild", "--db", db)
        async with serve(db, *ALLOWED) as server:
            await end(server, token, urls, 1)
            await settled(db)
            assert arrived() == 4


async def test_an_import_of_an_export_sends_nothing_not_even_what_was_owed(tmp_path):
    async with settled_history(tmp_path) as (db, token, _, urls, arrived):
        async with serve(db, *ALLOWED, "--no-callbacks") as server:
            await end(server, token, urls, 3)
        copy, lines = tmp_path / "copy.db", tmp_path / "export.jsonl"
        await run("export", "--db", db, "--out", lines)
        await run("import", lines, "--db", copy)
        roots = [(await run("verify", "--json", "--db", each)).json["root"] for each in (db, copy)]
        assert roots[0] == roots[1]
        assert owed(copy) == 3
        async with serve(copy, *ALLOWED) as server:
            await settled(copy)
            await end(server, token, urls, 1)
            await settled(copy)
        assert arrived() == 3
        asked = tmp_path / "asked.db"
        await run("import", lines, "--db", asked, "--callbacks")
        async with serve(asked, *ALLOWED):
            await settled(asked)
        assert arrived() == 6


async def test_replaying_a_history_sends_nothing(tmp_path):
    async with settled_history(tmp_path) as (db, _, made, _, arrived):
        for id in made:
            for command in ("replay", "show", "log"):
                await run(command, "--db", db, id)
        assert arrived() == 2
