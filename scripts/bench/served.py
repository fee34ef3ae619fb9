"""Servers as processes of their own on 127.0.0.1: ours, and the bare ones it is compared with."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from scripts.bench.commands import JOBLEDGER
from scripts.bench.workplace import Log, Workplace

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_ADDRESS = re.compile(r"Listening on http://127\.0\.0\.1:(\d+)")


class Served:
    """A running server, stopped at the end of its ``with`` block. ``headers`` are sent with every request."""

    def __init__(self, command: Sequence[str], errors: Path, headers: dict[str, str]) -> None:
        self.headers = headers
        self._errors = errors
        with errors.open("wb") as stderr:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
        self._port = 0

    @property
    def port(self) -> int:
        """The port, once the server accepts connections."""
        if not self._port:
            assert self._process.stdout is not None
            found = next((match for line in self._process.stdout if (match := _ADDRESS.search(line))), None)
            if found is None:
                raise RuntimeError(f"a server did not start:\n{self._errors.read_text('utf-8', 'replace')[-2000:]}")
            self._port = int(found[1])
        return self._port

    def get(self, path: str) -> bytes:
        """Return the body that the server answers with."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=self.headers)
        with urllib.request.urlopen(request) as answer:  # noqa: S310 - http
            return bytes(answer.read())

    def post(self, path: str, body: bytes) -> bytes:
        """Send a body; return that of the answer."""
        headers = {**self.headers, "Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, headers)
        with urllib.request.urlopen(request) as answer:  # noqa: S310 - http
            return bytes(answer.read())

    def cpu_s(self) -> float:
        """Return the CPU seconds that the process and its workers have used, 0 where the system does not tell."""
        try:
            fields = [_stat(pid) for pid in self._pids()]
        except OSError:
            return 0.0
        return sum(int(each[11]) + int(each[12]) for each in fields) / TICKS_PER_S

    def _pids(self) -> list[int]:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text("ascii")
        return [self._process.pid, *map(int, children.split())]

    def memory(self) -> int:
        """Return the resident bytes of the process, 0 where the system does not tell."""
        try:
            found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self._process.pid}/status").read_text("ascii"))
        except OSError:
            return 0
        return int(found[1]) * 1024 if found else 0

    @contextmanager
    def halted(self) -> Iterator[None]:
        """Let the process do nothing meanwhile, so that what it does by itself takes no time from another."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End at once, where a clean stop would first wait for receivers that do not answer."""
        self._process.kill()

    def __enter__(self) -> Served:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)
        if self._process.stdout is not None:
            self._process.stdout.close()


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()


def ours(place: Workplace, log: Log, *options: str) -> Served:
    """Start our server as ``jobledger serve`` does, its log (the access log too) going to a file."""
    command = (*JOBLEDGER, "serve", "--db", str(log.path), "--port", "0", *options)
    return Served(command, place.fresh(".log"), {"Authorization": f"Bearer {log.token}"})


def bare(place: Workplace, log: Log, kind: str, path: str, body: bytes) -> Served:
    """Start a bare server that answers ``path`` with ``body``; it gets the same request headers as ours."""
    file = place.fresh(".body")
    file.write_bytes(body)
    command = (sys.executable, "-m", "scripts.bench.bare", kind, path, str(file))
    return Served(command, place.fresh(".log"), {"Authorization": f"Bearer {log.token}"})
