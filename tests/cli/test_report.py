"""``report``: what went wrong on the first screen, then the rest; the same told to programs, and nothing obeyed."""

import asyncio
import io
import os
import stat

import pytest
from rich.cells import cell_len
from rich.console import Console

from projections.report import report
from server.cli.reading import history
from server.cli.reportlines import show
from tests.cli.commandline import good, jobledger
from tests.cli.reporting import EVIL, LONG, WRONG, write
from tests.cli.stories import ABSENT, BATCH, BOB, GONE, JOB, OBEYED
from tests.cli.test_hostile_text import obeyed, on_a_terminal


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    path = tmp_path_factory.mktemp("reports") / "ledger.db"
    asyncio.run(write(path))
    return path


def printed(db, id, width, *, full=False):
    """The report on a terminal of that width, without the codes for bold."""
    _, events = asyncio.run(history(db, id))
    file = io.StringIO()
    show(Console(file=file, width=width, markup=False, emoji=False, highlight=False), report(events, full=full), full)
    return file.getvalue().splitlines()


def test_the_first_screen_says_what_went_wrong(reports):
    lines = good("report", "--db", reports, WRONG).out.splitlines()
    assert lines[0] == (
        "failed after 16.0 s in step 5 of 5: error (ValueError) – no more tries; "
        'looped: find({"q": "x"}) 4 times in a row, steps 2–5'
    )
    wrong = lines[lines.index("What went wrong") + 1 : lines.index("About") - 1]
    assert len(lines[: lines.index("About")]) < 24
    assert wrong[:6] == [
        "  first error     step 2, tool error of find, position 7, 5.0 s after the start",
        "                  no such file",
        "  ended by        ValueError, position 18: no more tries",
        "  errors          5 in all: 4 × tool error, 1 × end",
        "  last good step  step 1, which ended at position 5",
        '  loop            find({"q": "x"}) 4 times in a row, steps 2–5, answered the same every time',
    ]


def test_then_come_the_steps_and_every_event_with_the_gap_before_it(reports):
    lines = good("report", "--db", reports, WRONG).out.splitlines()
    steps = lines[lines.index("Steps") + 1 :]
    assert steps[:3] == [
        "     1  success          3.0 s    1,020 tokens   m-1",
        '         → get_user({"id": 7})',
        "          success in 1.0 s: Monica",
    ]
    assert (
        sum(line.startswith("!") and " failed" in line for line in steps) == 4 + 4 + 1
    )  # steps, their events, the end
    timeline = lines[lines.index("Timeline") + 3 :]
    assert len(timeline) == 18
    assert timeline[3] == "         4       +1.0 s  12:00:03.000000  returns: Monica"
    assert timeline[6] == "!        7       +1.0 s  12:00:06.000000  returns: no such file"


@pytest.mark.parametrize("width", [40, 80, 160])
@pytest.mark.parametrize("id", [WRONG, EVIL, LONG])
def test_it_fits_any_terminal_and_needs_no_colour(reports, width, id):
    lines = printed(reports, id, width)
    assert max(cell_len(line) for line in lines) <= width
    assert all(char.isprintable() for line in lines for char in line)
    assert len(lines) < 180


def test_a_long_run_does_not_flood_the_terminal_unless_asked_to(reports):
    short, full = (good("report", "--db", reports, LONG, *more).out for more in ([], ["--full"]))
    assert "… 80 steps left out; --full shows all …" in short
    assert "… 243 events left out; --full shows all …" in short
    assert all(f"→ tool-{number}(" in full for number in range(1, 101))
    assert "left out" not in full


def test_full_shows_texts_whole(reports):
    full = good("report", "--full", "--db", reports, EVIL).out
    (line,) = [line for line in full.splitlines() if "MMMM" * 1000 in line]
    assert line.strip() == "M" * 5_000_000
    assert len(good("report", "--db", reports, EVIL).out) < 30_000


def test_programs_get_the_whole_report(reports):
    told = good("report", "--json", "--db", reports, WRONG).json
    assert (told["header"]["id"], told["header"]["status"], told["header"]["costs"]) == (
        WRONG, "failed", {"agent_cost": 0.5},
    )  # fmt: skip
    assert (told["first_error"]["step"], told["last_good_step"]["number"], len(told["timeline"])) == (2, 1, 18)


@pytest.mark.parametrize(
    ("id", "verdict"),
    [
        (JOB, "completed after 1 min 00 s"),
        (BATCH, "created, with no end recorded; the last event was at "),
        (GONE, "created, with no end recorded; the last event was at "),
    ],
)
def test_jobs_and_batches_and_what_was_deleted_have_a_report(db, id, verdict):
    assert good("report", "--db", db, id).out.startswith(verdict)
    assert good("report", "--db", db, id, "--html", "-").out.startswith("<!doctype html>")


def test_who_was_refused_what_is_told(db):
    out = good("report", "--db", db, JOB).out
    assert f"  refused  cancelled, as it was completed, position 13, by {BOB}" in out.splitlines()


@pytest.mark.parametrize("more", [[], ["--full"], ["--html", "-"], ["--html", "-", "--full"]], ids=" ".join)
def test_hostile_text_is_shown_and_not_obeyed(reports, more):
    on_paper = good("report", "--db", reports, EVIL, *more).out
    seen = on_a_terminal("report", "--db", reports, EVIL, *more)
    assert obeyed(seen) | obeyed(on_paper) == set()
    for text in ("owned", "gnp.exe", ":smile:"):
        assert text in on_paper


def test_programs_get_hostile_text_as_it_is_in_json_that_a_terminal_may_see(reports):
    done = good("report", "--json", "--full", "--db", reports, EVIL)
    assert done.json["header"]["agent_id"].startswith("\u202egnp.exe")
    assert obeyed(done.out) & {"\x1b", "\x07", "\x00", "\x08", "\r"} == set()
    assert OBEYED


# --- the file ---------------------------------------------------------------------------------------------------------


def test_a_file_is_written_whole_for_its_owner_and_in_the_place_of_another(reports, tmp_path):
    target = tmp_path / "run.html"
    target.write_text("old")
    target.chmod(0o644)
    done = good("report", "--db", reports, WRONG, "--html", target)
    assert (done.raw, done.err) == (b"", f"{target}\n")
    assert target.read_bytes().startswith(b"<!doctype html>")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["run.html"]
    assert good("report", "--db", reports, WRONG, "--html", "-").raw == target.read_bytes()


@pytest.mark.parametrize("ending", [".db", ".db-wal", ".views.db", ".key"])
def test_no_file_of_the_ledger_is_written_over(db, ending):
    target = db.with_name(f"ledger{ending}")
    before = target.read_bytes() if target.exists() else None
    done = jobledger("report", "--db", db, JOB, "--html", target)
    assert (done.code, done.raw) == (2, b"")
    assert "belongs to the ledger" in done.err
    assert (target.read_bytes() if target.exists() else None) == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([ABSENT], ABSENT),
        (["token-00000000-0000-4000-8000-000000000001"], "job-<uuid4>"),
        ([JOB, "--json", "--html", "x"], "do not go together"),
        ([JOB, "--html", "/absent/x.html"], "cannot be written"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(db, arguments, told):
    done = jobledger("report", "--db", db, *arguments)
    assert (done.code, done.raw) == (2, b"")
    (line,) = done.err.splitlines()
    assert told in line


def test_a_link_that_leads_to_itself_is_no_place_for_a_report(db, tmp_path):
    link = tmp_path / "loop.html"
    link.symlink_to(link)
    done = jobledger("report", "--db", db, JOB, "--html", link)
    assert (done.code, done.raw) == (2, b"")
    (line,) = done.err.splitlines()
    assert "a link that leads nowhere" in line
