"""The benchmarks run: the smallest size of each, whose ratios mean little and are not looked at."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BENCHES = {"retrieve", "lists", "within", "append-many", "append-one", "streams", "import", "rebuild", "verify"}


def test_every_row_of_the_smallest_size_comes_out_with_a_positive_ratio(tmp_path: Path) -> None:
    target = tmp_path / "bench.json"
    command = [sys.executable, "-m", "scripts.bench", "--size", "small", "--json", str(target)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    result = json.loads(target.read_bytes())
    assert {row["bench"] for row in result["rows"]} == BENCHES
    for row in result["rows"]:
        assert 0 < row["ratio_min"] <= row["ratio"] <= row["ratio_max"], row
        assert row["ours"] > 0, row
        assert row["baseline"] > 0, row
        assert row["faults"] == 0, row
        assert row["note"], row
    assert result["machine"]["cpus"] > 0
    assert result["machine"]["sqlite"]
    assert all(row["name"] in done.stdout for row in result["rows"])
