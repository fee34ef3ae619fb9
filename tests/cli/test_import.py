"""``import``: foreign histories and our own, what becomes of each line, and what the rejects file tells of."""

import gzip
import json
import os
import random

import pytest

from ledger import ids
from tests.cli.commandline import good, jobledger
from tests.cli.stories import EVENTS, JOB, types_of
from tests.ledger.agent_runs import experiment, line, simulation, uuid

SWF = """; UnixStartTime: 1000000000
; a comment
1  0  5  60  4 -1 -1  4  3600 -1 1  7 1 -1 2 -1 -1 -1
2 10 -1 -1  4 -1 -1  4  3600 -1 5  7 1 -1 2 -1 -1 -1
3 20  0 3600 4 -1 -1 4  3600 -1 5  7 1 -1 2 -1 -1 -1
4 30  1  9  4 -1 -1  4  3600 -1 0  7 1 -1 2 -1 -1 -1
5 40 -1 -1  4 -1 -1  4  3600 -1 -1 7 1 -1 2 -1 -1 -1
this is no job
7 1 2 3
8 50  1  9  4 -1 -1  4  3600 -1 3  7 1 -1 2 -1 -1 -1
"""
SWF_JOBS = {
    1: ("completed", "end_turn", ["created", "pending", "running", "completed"]),
    2: ("cancelled", "cancelled", ["created", "pending", "running", "cancelled"]),
    3: ("expired", None, ["created", "pending", "running", "expired"]),
    4: ("failed", "error", ["created", "pending", "running", "failed"]),
    5: ("pending", None, ["created", "pending"]),
}
GOOGLE = """600000000,,10,0,u,2,n,l
600000000,,10,1,u,2,n,l
601000000,,10,4,u,2,n,l
602000000,2,11,4,u,2,n,l
603000000,,12,0,u,2,n,l
604000000,,10,1,u,2,n,l
605000000,,12,8,u,2,n,l
605000000,,12,9,u,2,n,l
606000000,,12
,,12,1,u,2,n,l
606000000,,x,1,u,2,n,l
"""
LETTA = line() + b"no json\n" + b'{"type":"header"}\n' + line(run=2)
TAU2 = b"".join(experiment(simulation(1), 7, simulation(2)))


@pytest.fixture
def file(tmp_path):
    """Write a file to import."""

    def write(text, name="jobs.swf"):
        path = tmp_path / name
        raw = text if isinstance(text, bytes) else text.encode()
        path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
        return path

    return write


@pytest.fixture
def new(tmp_path):
    return tmp_path / "new.db"


def load(db, path, *more, format="swf"):
    done = good("import", "--json", "--db", db, "--format", format, *more, path).json
    assert done.keys() == {"appended", "duplicate", "rejected", "events_per_s"}
    return done["appended"], done["duplicate"], done["rejected"]


# --- what becomes of lines --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["jobs.swf", "jobs.swf.gz"])
def test_swf_rows_become_jobs(new, file, name):
    assert load(new, file(SWF, name)) == (18, 0, 3)
    for number, (status, reason, life) in SWF_JOBS.items():
        id = ids.derive("job", "jobs.swf", str(number))
        job = good("show", "--json", "--db", new, id).json
        assert (job["status"], job["stop_reason"], job["metadata"]["job_number"]) == (status, reason, number)
        events = good("log", "--json", "--db", new, id).json
        assert types_of(events) == [f"job.{each}" for each in life]
        imputed = [event["type"] for event in events if event["data"].get("imputed")]
        assert imputed == (["job.running"] if number == 2 else [])


def test_an_swf_job_has_the_times_of_its_row(new, file):
    load(new, file(SWF))
    events = good("log", "--json", "--db", new, ids.derive("job", "jobs.swf", "1")).json
    times = [event["time"] for event in events]
    assert times == [f"2001-09-09T01:{end}.000000Z" for end in ("46:40", "46:40", "46:45", "47:45")]


def test_what_a_google_trace_never_showed_is_imputed(new, file):
    assert load(new, file(GOOGLE, "part.csv"), format="google-2011") == (10, 0, 6)
    events = good("log", "--json", "--db", new, ids.derive("job", "google-2011", "11")).json
    assert types_of(events) == ["job.created", "job.pending", "job.running", "job.completed"]
    assert [event["data"].get("imputed", False) for event in events] == [True, True, True, False]
    assert {event["time"] for event in events} == {"2011-05-01T23:00:02.000000Z"}


@pytest.mark.parametrize(("format", "count"), [("letta-evals", 11), ("tau2", 18)])
def test_runs_of_agents_come_with_what_happened_in_them(new, file, format, count):
    appended, _, rejected = load(new, file({"letta-evals": LETTA, "tau2": TAU2}[format], "agents.json"), format=format)
    assert (appended, rejected) == {"letta-evals": (22, 2), "tau2": (2 * 18 + 4, 1)}[format]
    for run in (f"run-{uuid(number)}" for number in (1, 2)):
        shown = good("show", "--json", "--db", new, run).json
        assert (shown["status"], shown["stop_reason"], shown["metadata"]["file"]) == (
            "completed",
            "end_turn",
            "agents.json",
        )
        events = good("log", "--json", "--db", new, run).json
        assert len(events) == count
        assert types_of(events)[:3] == ["run.created", "run.running", "run.message"]
    assert good("verify", "--json", "--views", "--db", new).json["ok"]


@pytest.mark.parametrize(
    ("format", "text"), [("swf", SWF), ("google-2011", GOOGLE), ("letta-evals", LETTA), ("tau2", TAU2)]
)
def test_the_same_file_again_adds_nothing(new, file, format, text):
    path = file(text, "jobs.data")
    appended, _, rejected = load(new, path, format=format)
    before = good("export", "--db", new).raw
    assert load(new, path, format=format) == (0, appended, rejected)
    assert good("export", "--db", new).raw == before


def test_a_file_that_grew_adds_what_is_new(new, file):
    lines = SWF.splitlines(keepends=True)
    assert load(new, file("".join(lines[:4]))) == (8, 0, 0)
    assert load(new, file(SWF)) == (10, 8, 3)


def test_a_file_changed_since_its_import_is_refused_where_it_says_something_else(new, file):
    load(new, file(SWF))
    changed = SWF.replace("1  0  5  60  4", "1  0  5  61  4")
    assert load(new, file(changed)) == (0, 14, 4)
    assert good("show", "--json", "--db", new, ids.derive("job", "jobs.swf", "1")).json["total_duration_ns"] == 60e9


def test_several_files_are_imported_in_one_go(new, file):
    one, two = file(SWF, "one.swf"), file(SWF, "two.swf.gz")
    tally = good("import", "--json", "--db", new, "--format", "swf", one, two).json
    assert (tally["appended"], tally["rejected"]) == (36, 6)


def test_an_import_tells_a_reader_what_became_of_it(new, file, tmp_path):
    rejects = tmp_path / "rejects.jsonl"
    out = good("import", "--db", new, "--format", "swf", "--rejects", rejects, file(SWF)).out
    assert [line.split()[:2] for line in out.splitlines()[:3]] == [
        ["appended", "18"],
        ["duplicate", "0"],
        ["rejected", "3"],
    ]
    assert str(rejects) in out
    assert "events/s" in out


# --- rejects ----------------------------------------------------------------------------------------------------------


def rejected(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("format", "text", "reasons"),
    [
        ("swf", SWF, {8: "4 fields", 9: "4 fields", 10: "status 3"}),
        (
            "google-2011",
            GOOGLE,
            {6: "'completed'", 7: "UPDATE", 8: "event type 9", 9: "3 columns", 10: "", 11: "job id"},
        ),
        ("letta-evals", LETTA.decode(), {2: "not JSON", 3: "'header'"}),
        ("tau2", "no json\n", {1: "malformed"}),
        (
            "jobledger",
            'no json\n\n{"specversion":"1.0"}\n{"specversion":"1.0","type":"job.done","subject":"job-1","data":{}}\n',
            {1: "not JSON", 3: "type", 4: "job.done"},
        ),
    ],
)
def test_the_rejects_file_names_each_refused_line_with_its_reason_and_text(new, file, tmp_path, format, text, reasons):
    path, rejects = file(text, "input.data"), tmp_path / "rejects.jsonl"
    load(new, path, "--rejects", rejects, format=format)
    lines = rejected(rejects)
    assert [each.keys() for each in lines] == [{"file", "line", "reason", "text"}] * len(reasons)
    assert [(each["file"], each["line"]) for each in lines] == [("input.data", number) for number in reasons]
    for each, reason in zip(lines, reasons.values(), strict=True):
        assert reason in each["reason"]
    assert [each["text"] for each in lines] == [text.splitlines()[number - 1].strip() for number in reasons]


def test_no_rejects_file_is_made_when_nothing_is_refused(new, file, tmp_path):
    rejects = tmp_path / "rejects.jsonl"
    load(new, file("".join(SWF.splitlines(keepends=True)[:4])), "--rejects", rejects)
    assert not rejects.exists()


def test_a_line_that_is_no_text_is_refused_and_the_others_are_taken(new, file, tmp_path):
    chance, rejects = random.Random(5), tmp_path / "rejects.jsonl"
    noise = chance.randbytes(300).replace(b"\n", b"").replace(b";", b"")
    assert load(new, file(SWF.encode() + noise + b"\n"), "--rejects", rejects) == (18, 0, 4)
    assert rejected(rejects)[-1]["line"] == 11


def test_a_file_whose_name_is_no_unicode_is_imported_and_named_as_well_as_can_be(new, file, tmp_path):
    rejects = tmp_path / "rejects.jsonl"
    assert load(new, file(SWF, os.fsdecode(b"\xff.swf")), "--rejects", rejects) == (18, 0, 3)
    assert {each["file"] for each in rejected(rejects)} == {"\ufffd.swf"}
    assert good("show", "--json", "--db", new, ids.derive("job", "\ufffd.swf", "1")).json["status"] == "completed"


# --- damaged input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["cut short", "bytes changed", "no deflate", "a wrong checksum"])
def test_a_damaged_gzip_file_is_told_in_one_line(new, file, damage):
    chance = random.Random(6)
    body = "".join(f"{n} {chance.randrange(9**9)} 1 9 4 -1 -1 4 3600 -1 1 7 1 -1 2 -1 -1 -1\n" for n in range(1, 4000))
    path = file(SWF + body, "jobs.swf.gz")
    raw = bytearray(path.read_bytes())
    if damage == "cut short":
        del raw[len(raw) // 2 :]
    elif damage == "bytes changed":
        raw[len(raw) // 2 : len(raw) // 2 + 64] = bytes(64)
    elif damage == "no deflate":  # found by: scripts/fuzz --only 'packed file' --seed 1 --input 12
        raw[10] = 0xFF
    else:
        raw[-6] ^= 1
    path.write_bytes(raw)
    done = jobledger("import", "--json", "--db", new, "--format", "swf", path)
    assert (done.code, done.raw) == (2, b"")
    (line,) = done.err.splitlines()
    assert path.name in line
    assert "damaged gzip" in line
    assert good("verify", "--json", "--db", new).json["ok"]


# --- exports ----------------------------------------------------------------------------------------------------------


def test_an_export_restores_the_ledger_with_positions_times_and_root(db, new, tmp_path):
    lines = tmp_path / "log.jsonl.gz"
    lines.write_bytes(gzip.compress(good("export", "--db", db).raw))
    assert load(new, lines, format="jobledger") == (EVENTS, 0, 0)
    assert good("verify", "--json", "--db", new).json == good("verify", "--json", "--db", db).json
    assert (
        good("log", "--json", "--db", new, JOB).json[0]["recordedtime"]
        == (good("log", "--json", "--db", db, JOB).json[0]["recordedtime"])
    )
    assert load(new, lines, format="jobledger") == (0, EVENTS, 0)


def test_an_export_into_another_ledger_is_appended(db, new, file, tmp_path):
    load(new, file(SWF))
    lines = tmp_path / "log.jsonl"
    good("export", "--db", db, "--out", lines)
    assert load(new, lines, format="jobledger") == (EVENTS, 0, 0)
    assert good("show", "--json", "--db", new, JOB).json == good("show", "--json", "--db", db, JOB).json
    assert load(new, lines, format="jobledger") == (0, EVENTS, 0)
    assert good("verify", "--json", "--views", "--db", new).json["ok"]


def test_a_changed_line_of_an_export_is_not_taken_for_the_one_it_was(db, new, tmp_path):
    lines = tmp_path / "log.jsonl"
    raw = good("export", "--db", db).raw
    assert raw.count(b"agent-1") == 1
    lines.write_bytes(raw)
    load(new, lines, format="jobledger")
    lines.write_bytes(raw.replace(b"agent-1", b"agent-X"))
    assert load(new, lines, format="jobledger") == (0, EVENTS - 1, 1)
    assert good("verify", "--json", "--db", new).json == good("verify", "--json", "--db", db).json
