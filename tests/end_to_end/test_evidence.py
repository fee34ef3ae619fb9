"""Real histories of every format give evidence: no false alarm, bundles that hold, also beside a server that writes."""

import gzip
import json

import pytest

from ledger import keys
from tests.cli.commandline import good
from tests.end_to_end.real_data import DATA, GOOGLE, KTH, needs_data

LINES = 2_000
"""Lines of the long sources that are read."""


def source(format, folder):
    """A file of the format, or the beginning of a long one."""
    if format == "tau2":
        return min((DATA / "tau2-bench").glob("*.gz"), key=lambda path: path.stat().st_size)
    if format == "letta-evals":
        return min((DATA / "letta-evals").glob("*.gz"), key=lambda path: path.stat().st_size)
    whole = KTH if format == "swf" else GOOGLE[0]
    part = folder / "part"
    with gzip.open(whole, "rb") as lines:
        part.write_bytes(b"".join(line for _, line in zip(range(LINES), lines, strict=False)))
    return part


@needs_data
@pytest.mark.parametrize("format", ["swf", "google-2011", "tau2", "letta-evals"])
def test_a_real_history_verifies_and_proves_itself_before_and_after_an_erasure(tmp_path, format):
    db = tmp_path / "ledger.db"
    good("import", "--db", db, "--format", format, source(format, tmp_path), "--rejects", tmp_path / "rejects")
    # Given checkpoints at its end, kept here and elsewhere
    note = tmp_path / "elsewhere"
    good("checkpoint", "--db", db, "--out", note)
    verdict = good("verify", "--db", db, "--against", note, "--json").json
    assert (verdict["ok"], verdict["problems"], verdict["checkpoints"]) == (True, [], 1)
    # When a history is taken out of it, then that proves itself, by the key alone
    lines = good("export", "--db", db).out.splitlines()
    stream = json.loads(lines[len(lines) // 2])["subject"]
    bundle = tmp_path / "bundle"
    good("bundle", stream, "--db", db, "--out", bundle)
    told = good("verify", bundle, "--key", keys.public_path(db), "--json").json
    assert (told["ok"], told["root"], told["erased"]) == (True, verdict["root"], 0)
    # And when its data is erased, the log still is what was signed before
    good("erase", stream, "--db", db, "--reason", "asked for", "--yes")
    after = good("verify", "--db", db, "--against", note, "--json").json
    assert (after["ok"], after["size"], after["erased"]) == (True, verdict["size"] + 1, told["events"])
    good("bundle", stream, "--db", db, "--out", bundle)
    assert good("verify", bundle, "--json").json["erased"] == told["events"]
