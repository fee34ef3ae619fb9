"""Putting a server under load, with ``wrk`` where it is installed and with ``client`` elsewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from scripts.bench.contest import Lap, Pair, take_turns
from scripts.bench.served import Served
from scripts.bench.workplace import Workplace

CONNECTIONS = 16
"""Enough that the server always has a request waiting, few enough that its own queue is not what is measured."""
SCRIPT = Path(__file__).with_name("paths.lua")
_COUNT = re.compile(r"^\s+(\d+) requests in ([0-9.]+)(ms|s|m),", re.MULTILINE)
_FAULT = re.compile(r"Non-2xx or 3xx responses: (\d+)|(?:connect|read|write|timeout) (\d+)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}


class Asking:
    """The paths that are asked for, in turn. ``step``: how many paths further each measurement begins.

    ``body``: a file that is sent with each request, which then is a POST. ``connections``: how many ask at once.
    """

    def __init__(
        self,
        served: Served,
        paths: Sequence[str],
        step: int = 0,
        body: Path | None = None,
        connections: int = CONNECTIONS,
    ) -> None:
        self.served = served
        self.body = body
        self.connections = connections
        self._paths = list(paths)
        self._step = step
        self._at = 0

    def next_paths(self) -> list[str]:
        """Return the paths of the next measurement."""
        at, self._at = self._at, (self._at + self._step) % len(self._paths)
        return self._paths[at:] + self._paths[:at]


def compare(place: Workplace, ours: Asking, baseline: Asking, least_s: float = 0.0) -> list[Pair]:
    """Measure two servers, or two ways to ask one, in turns; where there are several rounds, after one to warm up.

    ``least_s``: how long a measurement lasts at least, where one answer takes long.
    """
    scale = place.scale
    seconds = max(scale.load_s, least_s)
    warm = [measure(place, asking, seconds) for asking in (ours, baseline) if scale.load_rounds > 1]
    pairs = take_turns(
        lambda: measure(place, ours, seconds), lambda: measure(place, baseline, seconds), scale.load_rounds
    )
    first = pairs[0][0]
    faults = sum(lap.faults for lap in warm)  # the rates of a warm-up do not count, but what went wrong does
    return [(first._replace(faults=first.faults + faults), pairs[0][1]), *pairs[1:]]


def measure(place: Workplace, asking: Asking, seconds: float) -> Lap:
    """Ask a server for so long, in whole seconds where ``wrk`` asks."""
    file = place.fresh(".paths")
    file.write_text("\n".join(asking.next_paths()) + "\n", "ascii")
    wrk = shutil.which("wrk") if seconds >= 1 and asking.body is None else None
    before = asking.served.cpu_s()
    if wrk:
        answers, elapsed, faults = _wrk(wrk, asking, seconds, file)
    else:
        answers, elapsed, faults = _client(asking, seconds, file)
    cpu_s = asking.served.cpu_s() - before
    file.unlink()
    return Lap(answers / elapsed, cpu_s / answers, faults)


def _wrk(wrk: str, asking: Asking, seconds: float, file: Path) -> tuple[float, float, int]:
    served = asking.served
    headers = [option for name, value in served.headers.items() for option in ("-H", f"{name}: {value}")]
    url = f"http://127.0.0.1:{served.port}"
    command = [
        wrk,
        "-t1",
        f"-c{asking.connections}",
        f"-d{round(seconds)}s",
        "-s",
        str(SCRIPT),
        *headers,
        url,
        "--",
        str(file),
    ]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = _COUNT.search(told)
    if found is None:
        raise RuntimeError(f"wrk says: {told}")
    faults = sum(int(fault[1] or fault[2]) for fault in _FAULT.finditer(told))
    return float(found[1]), float(found[2]) * _SECONDS[found[3]], faults


def _client(asking: Asking, seconds: float, file: Path) -> tuple[float, float, int]:
    served = asking.served
    headers = [f"{name}: {value}" for name, value in served.headers.items()]
    command = [
        sys.executable,
        "-m",
        "scripts.bench.client",
        str(served.port),
        str(seconds),
        str(asking.connections),
        str(file),
        "" if asking.body is None else str(asking.body),
    ]
    told = subprocess.run([*command, *headers], capture_output=True, check=True).stdout
    result = msgspec.json.decode(told, type=dict[str, float])
    return result["answers"], result["seconds"], int(result["faults"])
