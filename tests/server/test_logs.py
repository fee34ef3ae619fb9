"""How lines are written: their times, and that one failed write costs its own lines and no other."""

import asyncio
import gc
import io
import logging
import random

import msgspec
import pytest
import structlog

from ledger.times import to_text
from server import logs
from server.protocol import Connection
from tests.server.raw import connection
from tests.server.serving import MIDNIGHT_US, logging_to

LINE = logs.Access(
    *("2026-11-22T03:45:26.918194Z", "request", "req-1", "GET", "/v1/jobs", "owner:any", 200, "ok"),
    *("user-1", "token-1", None, None, 5),
)


def test_times_of_lines_are_written_as_all_times_are():
    chance, stamps = random.Random(3), logs.Stamps()
    time_us = MIDNIGHT_US - 3_000_000
    for _ in range(500):
        time_us += chance.choice([-1, 0, 1, 7, 999_999, 1_000_000, 86_400_000_000])
        assert stamps.of(time_us) == to_text(time_us)


class Output:
    """Where lines go: the first ``faults`` writes fail, as those to a pipe that nobody reads do."""

    def __init__(self, faults):
        self.faults = faults
        self.lines = []

    def msg(self, text):
        if self.faults:
            self.faults -= 1
            raise BrokenPipeError
        self.lines += text.split(b"\n")


@pytest.mark.parametrize("faults", [0, 1])
async def test_lines_that_could_not_be_written_hold_up_no_later_ones(faults):
    # given
    output, told = Output(faults), []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))
    logger = logs.AccessLogger(output, [], {"lines": []})
    # when two turns of the event loop write two lines each
    for _ in range(2):
        logger.request(LINE)
        logger.request(LINE)
        await asyncio.sleep(0)
    # then
    assert len(output.lines) == 4 - 2 * faults
    assert len(told) == faults
    assert msgspec.json.decode(output.lines[0], type=logs.Access) == LINE


class Pipe(io.RawIOBase):
    """A pipe that remembers each write."""

    def __init__(self):
        self.writes = []

    def writable(self):
        return True

    def write(self, data):
        self.writes.append(bytes(data))
        return len(data)


@pytest.mark.parametrize("count", [1, 10, 100])
async def test_lines_go_out_whole_as_other_workers_write_to_the_same_pipe(count):
    # given
    pipe = Pipe()
    with logging_to(io.TextIOWrapper(io.BufferedWriter(pipe))):
        logger = logs.access_logger()
        # when one turn of the event loop writes many lines
        for _ in range(count):
            logger.request(LINE)
        await asyncio.sleep(0)
    # then no write ends within a line, and none is more than a pipe takes as one piece
    assert all(write.endswith(b"\n") for write in pipe.writes)
    assert max(map(len, pipe.writes)) <= 4096
    assert b"".join(pipe.writes).splitlines() == [msgspec.json.encode(LINE)] * count
    assert len(pipe.writes) <= 1 + count * 256 // 3072  # many lines go together


async def test_what_a_library_logs_of_a_request_is_one_line_without_its_words(service, log_lines, monkeypatch):
    # given a library that stumbles over what a stranger sent
    async def stumble(self, request, *rest):
        raise RuntimeError(request.path)

    monkeypatch.setattr(Connection, "finish_response", stumble)
    async with connection(service) as raw:
        await raw.send(b"GET /NOBODYS HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await raw.rest() == b""
    # then each line is an object, also the one of the library, and that one has none of its words
    lines = [msgspec.json.decode(line) for line in log_lines.getvalue().splitlines()]
    assert {line["event"] for line in lines} == {"request", "library"}
    (line,) = [line for line in lines if line["event"] == "library"]
    assert (line["level"], "aiohttp" in line["where"], line["error"]) == ("error", True, "RuntimeError")
    assert b"NOBODYS" not in log_lines.getvalue()


def test_a_stream_that_nobody_else_holds_takes_lines_as_long_as_they_are_logged(tmp_path):
    file = tmp_path / "log"
    before = structlog.get_config()
    try:
        logs.configure(file.open("w"))
        gc.collect()
        structlog.get_logger().warning("still.here")
    finally:
        structlog.configure(**before)
        root = logging.getLogger()
        held = [each for each in root.handlers if isinstance(each, logs.Foreign) and each.stream.name == str(file)]
        for handler in held:
            root.removeHandler(handler)
            handler.stream.close()
    assert b"still.here" in file.read_bytes()
