"""An export restores the ledger it came from, to the letter."""

import sqlite3

import pytest

from tests.cli.commandline import good
from tests.end_to_end.real_data import DATA, GOOGLE, needs_data

pytestmark = needs_data
LETTA = sorted((DATA / "letta-evals").glob("*.jsonl.gz"))

EVENTS = 4_896 + 19_756
COLUMNS = "position, stream, version, type, schema, time, recorded, actor, key, correlation, data, salt, digest, leaf"


@pytest.fixture(scope="module")
def ledgers(tmp_path_factory):
    """A ledger with real histories, runs and jobs, its export, the ledger made from that, and what the import said."""
    folder = tmp_path_factory.mktemp("round-trip")
    original = folder / "original.db"
    for format, files in (("letta-evals", LETTA), ("google-2011", GOOGLE[:2])):
        good("import", "--db", original, "--format", format, *files)
    copy, lines = folder / "copy.db", folder / "log.jsonl"
    good("export", "--db", original, "--out", lines)
    tally = good("import", "--json", "--db", copy, lines).json
    return original, copy, lines, tally


def test_the_copy_has_the_root_of_the_original_and_verifies(ledgers):
    original, copy, *_ = ledgers
    verdict = good("verify", "--json", "--views", "--db", copy).json
    assert (verdict["ok"], verdict["size"]) == (True, EVENTS)
    assert verdict == good("verify", "--json", "--db", original).json


def test_the_copy_has_every_event_at_its_position_with_its_times_and_salt(ledgers):
    original, copy, _, tally = ledgers
    assert (tally["appended"], tally["duplicate"], tally["rejected"]) == (EVENTS, 0, 0)
    connection = sqlite3.connect(f"{original.as_uri()}?mode=ro", uri=True)
    connection.execute("ATTACH ? AS copy", (f"{copy.as_uri()}?mode=ro",))
    assert connection.execute("SELECT count(*), max(position) FROM copy.events").fetchone() == (EVENTS, EVENTS)
    differing = f"SELECT {COLUMNS} FROM main.events EXCEPT SELECT {COLUMNS} FROM copy.events"
    assert connection.execute(differing).fetchall() == []
    connection.close()


def test_the_export_of_the_copy_says_the_same_under_its_own_name(ledgers):
    _, copy, lines, _ = ledgers
    again = good("export", "--db", copy).raw
    one, other = (raw.partition(b'"source":"')[2].partition(b'"')[0] for raw in (lines.read_bytes(), again))
    assert one != other
    assert again.replace(other, one) == lines.read_bytes()


def test_the_same_export_again_adds_nothing(ledgers):
    _, copy, lines, _ = ledgers
    tally = good("import", "--json", "--db", copy, lines).json
    assert (tally["appended"], tally["duplicate"], tally["rejected"]) == (0, EVENTS, 0)
