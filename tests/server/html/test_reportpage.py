"""The page of a report: whole, small, the same without a network, and hostile text in it is text."""

import re

import msgspec
import pytest

from ledger.times import from_text
from projections.report import report
from server.html.drawing import BUCKETS, drawing
from server.html.reportpage import page
from server.html.templates import visible
from tests.cli.commandline import good
from tests.cli.reporting import EVIL, LONG, MARKUP, WRONG
from tests.cli.stories import OBEYED, TRAPS
from tests.ledger.histories import id_of
from tests.projections.happened import A, B, back, call, done, ended, given, running, step, user
from tests.server.html.parsed import MAY_LOAD, Parsed

ELEMENTS = {
    "html", "head", "meta", "title", "style", "body", "header", "footer", "h1", "h2", "p", "span", "code", "pre", "div",
    "dl", "dt", "dd", "figure", "figcaption", "svg", "defs", "pattern", "line", "rect", "text", "details", "summary",
}  # fmt: skip
"""All that a page is made of: nothing that runs, nothing that loads."""


@pytest.fixture(scope="session", params=[(EVIL, False), (EVIL, True), (WRONG, False), (LONG, False)])
def html(request, reports):
    id, full = request.param
    return good("report", "--db", reports, id, "--html", "-", *(["--full"] if full else [])).out


def test_a_page_is_sound_and_of_nothing_that_runs_or_loads(html):
    parsed = Parsed(html)
    assert parsed.faults == []
    assert parsed.declared == ["doctype html"]
    assert parsed.tags <= ELEMENTS
    assert not {name for name in parsed.attributes if name.startswith("on") or name == "style"}
    assert not parsed.attributes & MAY_LOAD
    assert parsed.tags >= {"svg", "details", "title"}


def test_a_page_forbids_everything_but_its_own_style(html):
    (policy,) = [
        attributes["content"]
        for tag, attributes in Parsed(html).elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert re.fullmatch(
        r"default-src 'none'; style-src 'sha256-[A-Za-z0-9+/]{43}='; base-uri 'none'; form-action 'none'", policy
    )
    assert html.index("Content-Security-Policy") < html.index("<style>") < html.index("<title>") + 2000


def test_a_page_has_no_address_but_in_text(html):
    style = re.search("<style>(.*?)</style>", html, re.DOTALL)[1]
    assert "url(" not in style.replace("url(#queue)", "")
    assert "@import" not in style
    assert "http" not in style


def test_hostile_text_is_all_there_as_text(reports):
    shown = Parsed(good("report", "--full", "--db", reports, EVIL, "--html", "-").out)
    assert MARKUP in shown.text
    assert repr(TRAPS)[1:-1].replace("\\r\\n", "\\r\n") in shown.text
    assert "M" * 5_000_000 in shown.text
    assert not OBEYED & set(shown.text)


def test_a_page_is_bounded_unless_all_is_asked_for(reports):
    short, full = (good("report", "--db", reports, EVIL, "--html", "-", *more).raw for more in ([], ["--full"]))
    assert len(short) < 60_000
    assert len(full) > 5_000_000


def test_ten_thousand_events_make_no_large_page_and_no_crowded_drawing():
    ids = [id_of("step", number) for number in range(3300)]
    lives = [
        each
        for number, id in enumerate(ids)
        for each in (
            call(number, step_id=id),
            back(number, "c", "error" if number % 50 == 0 else "success", step_id=id),
            step(number + 0.5, id, status="failed" if number % 50 == 0 else "success", error_type="tool_error"),
        )
    ]
    told = report(given(running(), *lives, ended(3400)))
    assert len(page(told, "ledger")) < 1_500_000
    assert f"{9903 - 1000:,} events left out; --full has all" in page(told, "ledger")
    assert all(len(lane.bars) <= 3 * BUCKETS for lane in drawing(told).lanes)
    assert len(page(told, "ledger", full=True)) > 4_000_000


# --- the drawing ------------------------------------------------------------------------------------------------------


def lanes(*happened):
    return {
        lane.name: [(bar.x, round(bar.x + bar.width, 3), bar.kind) for bar in lane.bars]
        for lane in drawing(report(given(*happened))).lanes
    }


def test_queue_work_and_idle_time_are_drawn_apart():
    found = lanes(running(20), step(30), call(40, step_id=A), back(50, "c", "error", step_id=A), done(60), ended(100))
    assert found["Run"] == [(0, 20, "queue"), (20, 30, "idle"), (30, 60, "working"), (60, 100, "idle")]
    assert found["Steps"] == [(30, 60, "odd")]
    assert found["Tool calls"] == [(40, 50, "failed")]
    assert found["Errors"] == [(50, 50.2, "error")]
    assert [kind for *_, kind in found["Events"]] == ["event"] * 7


def test_what_was_never_ended_goes_on_to_the_end_of_the_line():
    assert lanes(running(0), step(50), user(100))["Steps"] == [(50, 100, "odd open")]


def test_what_came_after_the_end_is_drawn_behind_it():
    assert lanes(running(0), ended(50), (100, "deleted", {}))["Run"] == [(0, 50, "running"), (50, 100, "after")]


def test_steps_that_touch_can_be_told_apart():
    assert lanes(running(0), done(50, A), done(100, B), ended(100))["Steps"] == [(0, 50, "odd"), (50, 100, "even")]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, ["0 s"]),
        (0.004, ["0 s", "0.001 s", "0.002 s", "0.003 s", "0.004 s"]),
        (25, ["0 s", "5 s", "10 s", "15 s", "20 s", "25 s"]),
        (200, ["0 s", "1 min", "2 min", "3 min"]),
        (7200, ["0 s", "30 min", "1 h", "1:30 h", "2 h"]),
        (86_400 * 400, ["0 s", "84 d", "168 d", "252 d", "336 d"]),
    ],
)
def test_the_marks_of_time_are_round_and_few(seconds, expected):
    assert [tick.text for tick in drawing(report(given(ended(seconds)))).ticks] == expected


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 中", "plain é 中"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\x1b[2J\x00\u202e\u2066\u200f", "\\x1b[2J\\x00\\u202e\\u2066\\u200f"),
        (7, 7),
    ],
)
def test_what_would_control_the_reader_is_made_visible(text, shown):
    assert visible(text) == shown


@pytest.mark.parametrize("years", [(1, 1), (9999, 9999), (1, 9999), (1969, 1970)])
def test_runs_of_any_year_can_be_drawn(years):
    first, last = (from_text(f"{year:04d}-12-31T00:00:00Z") for year in years)
    events = given(running(), call(1, step_id=A), back(2, step_id=A), done(3), ended(4))
    moved = [msgspec.structs.replace(each, time=first if each.version < 3 else last) for each in events]
    html = page(report(moved), "ledger")
    assert Parsed(html).faults == []
    assert f"{years[0]:04d}-12-31T00:00:00.000000Z" in html
