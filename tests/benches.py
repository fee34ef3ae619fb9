"""Benches as tests run them: the smallest size, whose ratios mean little and are not looked at."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def check(folder: Path, benches: set[str]) -> None:
    """Run these benches; every row must come out with a positive ratio."""
    target = folder / "bench.json"
    only = [option for name in sorted(benches) for option in ("--only", name)]
    command = [sys.executable, "-m", "scripts.bench", "--size", "small", "--json", str(target), *only]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    result = json.loads(target.read_bytes())
    assert {row["bench"] for row in result["rows"]} == benches
    for row in result["rows"]:
        assert 0 < row["ratio_min"] <= row["ratio"] <= row["ratio_max"], row
        assert row["ours"] > 0, row
        assert row["baseline"] > 0, row
        assert row["faults"] == 0, row
        assert row["note"], row
    assert result["machine"]["cpus"] > 0
    assert result["machine"]["sqlite"]
    assert all(row["name"] in done.stdout for row in result["rows"])
