"""``replay`` by keys: one event a screen, forward and back and anywhere, in a terminal of any size, left as it was."""

import asyncio
import fcntl
import io
import os
import re
import select
import signal
import struct
import subprocess
import termios

import pytest
from rich.cells import cell_len
from rich.console import Console

from server.cli.frames import KEPT_EVERY, Frames
from server.cli.reading import history
from server.cli.replay import Player
from server.cli.replayscreen import HELP, screen
from tests.cli.commandline import COMMAND, good
from tests.cli.reporting import EVIL, LONG, WRONG, write
from tests.cli.stories import HOSTILE, JOB
from tests.cli.test_hostile_text import obeyed

RIGHT, LEFT, HOME, END = "\x1b[C", "\x1b[D", "\x1b[H", "\x1b[F"


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    path = tmp_path_factory.mktemp("reports") / "ledger.db"
    asyncio.run(write(path))
    return path


def frames_of(db, id):
    return Frames(asyncio.run(history(db, id))[1])


def player(frames, *sent, width=80, height=24):
    """A player that has been through what the terminal sent; then the terminal is gone. And all that was drawn."""
    left = list(sent)
    file = io.StringIO()
    console = Console(file=file, width=width, height=height, force_terminal=True, color_system=None)
    played = Player(frames, console, lambda: left.pop(0) if left else "")
    played.play()
    return played, file.getvalue()


def screens(drawn):
    """What was drawn, one text for each screen, without the codes that move the cursor."""
    return [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", part) for part in drawn.split("\x1b[H")[1:]]


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "number"),
    [
        ([], 1),
        (["n"], 2),
        ([" ", "\r", RIGHT, "\n"], 5),
        (["n", "n", "b"], 2),
        (["n", LEFT, LEFT], 1),
        ([END], 18),
        ([END, "n"], 18),
        ([END, HOME], 1),
        (["\x1b[4~"], 18),
        (["\x1b[4~", "\x1b[1~", "n"], 2),
        (["\x1bOF", "\x1bOH", "\x1bOC"], 2),
        (["nnn"], 4),
        (["nn" + LEFT], 2),
        (["e"], 7),
        (["g", "12", "\r"], 12),
        (["g", "1", "2", "\x7f", "\r"], 1),
        (["g12\r"], 12),
        (["gp12\r"], 12),
        (["g0\r"], 1),
        (["g99\r"], 18),
        (["ng12\x1b"], 2),
        (["g", "\r"], 1),
        (["gx1y2\r"], 12),
        (["g" + "9" * 40 + "\r"], 18),
        (["x", "?", "\x1b", "\x1b[A", "\t"], 1),
        (["n", "q", "n"], 2),
        (["nqn"], 2),
    ],
    ids=repr,
)
def test_keys_go_where_they_say(reports, sent, number):
    played, _ = player(frames_of(reports, WRONG), *sent)
    assert played.number == number


def test_a_number_beyond_the_last_event_is_a_position_of_the_log(reports):
    frames = frames_of(reports, EVIL)
    first = frames[1].event.position
    assert first > len(frames)
    assert player(frames, f"g{first + 3}\r")[0].number == 4
    assert player(frames, f"gp{first + 3}\r")[0].number == 4
    assert player(frames, "gp1\r")[0].number == 1
    assert player(frames, "g3\r")[0].number == 3


@pytest.mark.parametrize("sent", [[], ["\x03"], ["\x04"], ["n\x03n"], ["g\x04"]], ids=repr)
def test_what_ends_the_terminal_ends_the_replay_and_gives_the_screen_back(reports, sent):
    _, drawn = player(frames_of(reports, WRONG), *sent)
    assert drawn.startswith("\x1b[?1049h")
    assert drawn.endswith("\x1b[?1049l\x1b[?25h")


@pytest.mark.parametrize(
    ("sent", "notice"),
    [
        ("b", "this is the first event"),
        (END + "n", "this is the last event; q quits"),
        ("e", "first error: tool_error"),
        ("g1", "go to event, or p and a position: 1_"),
        ("n", HELP),
    ],
)
def test_the_last_line_says_what_can_be_done_or_why_it_was_not(reports, sent, notice):
    _, drawn = player(frames_of(reports, WRONG), sent)
    assert any(notice in shown for shown in screens(drawn)[-2:])


def test_a_history_without_errors_has_none_to_go_to(db, reports):
    played, drawn = player(frames_of(reports, LONG), "ne")
    assert (played.number, "there is no error" in screens(drawn)[-1]) == (2, True)
    token = good("token", "create", "--db", db, "--json").json["id"]
    assert "there is no error" in screens(player(frames_of(db, token), "e")[1])[-1]


# --- screens ----------------------------------------------------------------------------------------------------------


def test_a_screen_shows_the_event_what_it_changed_and_the_state_after_it(db):
    _, drawn = player(frames_of(db, JOB), "nnn")
    shown = screens(drawn)[-1]
    for part in (
        "event 4 of 6, position 6: job.updated",
        "2026-11-22T12:00:30.000000Z +10.0 s by user-",
        '{"metadata":{"n":2},"ttft_ns":5}',
        "ttft_ns: null → 5",
        'metadata: {"task":"nightly","n":1} → {"task":"nightly","n":2}',
        'status="running"',
    ):
        assert part in shown


@pytest.mark.parametrize(("width", "height"), [(80, 24), (160, 50), (40, 12), (20, 8), (80, 200), (1, 1)])
@pytest.mark.parametrize("id", [WRONG, EVIL])
def test_a_screen_fits_any_terminal(reports, width, height, id):
    frames = frames_of(reports, id)
    for frame in frames:
        lines = screen(frame, len(frames), width, height)
        assert len(lines) <= height
        assert max(cell_len(line) for line in lines) <= width
        assert all(char.isprintable() for line in lines for char in line)
        if width >= 80 and height >= 24:
            assert f"position {frame.event.position}" in lines[0]
            assert lines[-1] == HELP
            assert {"— data", "— changed", "— state after it"} <= set(lines)


def test_what_has_no_room_is_told(reports):
    frames = frames_of(reports, EVIL)
    lines = screen(frames[1], len(frames), 80, 24)
    assert any(re.fullmatch(r"  … \d+ more lines", line) for line in lines)


def test_hostile_text_is_shown_and_not_obeyed(db):
    _, drawn = player(frames_of(db, HOSTILE), "n")
    shown = "".join(screens(drawn))
    assert obeyed(shown) <= {"\r"}
    assert "owned" in shown


# --- long histories ---------------------------------------------------------------------------------------------------


def test_a_frame_is_the_same_however_it_is_reached(reports):
    frames = frames_of(reports, LONG)
    assert len(frames) > KEPT_EVERY + 50
    told = list(frames)
    for number in (303, 1, KEPT_EVERY, KEPT_EVERY + 1, 302, 150, 2, KEPT_EVERY - 1):
        assert frames[number] == told[number - 1]
    assert [frame.number for frame in told] == list(range(1, 304))


def test_few_states_are_held(reports):
    frames = frames_of(reports, LONG)
    for number in range(1, len(frames) + 1):
        assert frames[number].number == number
    assert len(frames._kept) == 1 + len(frames) // KEPT_EVERY


# --- a real terminal --------------------------------------------------------------------------------------------------


class Terminal:
    """The command on a terminal of its own, as a person has it."""

    def __init__(self, *arguments, rows=24, columns=80, **environment):
        self.master, self.slave = os.openpty()
        self.resize(rows, columns)
        inherited = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
        self.process = subprocess.Popen(
            [COMMAND, *map(str, arguments)],
            stdin=self.slave, stdout=self.slave, stderr=self.slave, start_new_session=True,
            env={**inherited, "TERM": "xterm-256color", **environment},
        )  # fmt: skip
        self.modes = termios.tcgetattr(self.slave)
        self.told = ""

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self):
        """Take in what the terminal is told next; tell whether it was told something within a minute."""
        ready, _, _ = select.select([self.master], [], [], 60)
        if ready:
            self.told += os.read(self.master, 65536).decode("utf-8", "replace")
        return bool(ready)

    def until(self, text):
        """Read on until the terminal was told a text."""
        start = len(self.told)
        while text not in self.told[start:]:
            assert self.read(), self.told[start:]

    def press(self, keys):
        os.write(self.master, keys.encode())

    def end(self):
        """Read to the end; return how the command ended, and whether the terminal is as it was."""
        while self.process.poll() is None or select.select([self.master], [], [], 0)[0]:
            assert select.select([self.master], [], [], 0.05)[0] == [] or self.read()
        is_as_it_was = termios.tcgetattr(self.slave) == self.modes
        os.close(self.slave)
        os.close(self.master)
        return self.process.returncode, is_as_it_was


@pytest.mark.parametrize("last", ["q", "\x03", "\x04"], ids=["q", "Ctrl-C", "Ctrl-D"])
def test_a_person_goes_through_a_run_and_gets_the_terminal_back(reports, last):
    terminal = Terminal("replay", "--db", reports, WRONG)
    terminal.until("event 1 of 18")
    terminal.press("n")
    terminal.until("event 2 of 18")
    terminal.resize(10, 40)
    os.kill(terminal.process.pid, signal.SIGWINCH)
    terminal.press(RIGHT)
    terminal.until("event 3 of 18")
    terminal.press("e")
    terminal.until("event 7 of 18")
    terminal.press(last)
    assert terminal.end() == (0, True)
    assert terminal.told.rstrip().endswith("\x1b[?1049l\x1b[?25h")
    assert "Traceback" not in terminal.told


def test_who_ends_the_process_gives_the_terminal_back_too(reports):
    terminal = Terminal("replay", "--db", reports, WRONG)
    terminal.until("event 1 of 18")
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.end() == (128 + signal.SIGTERM, True)
    assert terminal.told.rstrip().endswith("\x1b[?1049l\x1b[?25h")


def test_plain_lines_come_where_they_are_asked_for_or_nobody_can_press_keys(db, reports):
    plain = good("replay", "--db", reports, WRONG).out
    terminal = Terminal("replay", "--plain", "--db", reports, WRONG, columns=200)
    assert terminal.end() == (0, True)
    assert "\x1b[?1049h" not in terminal.told
    dumb = Terminal("replay", "--db", reports, WRONG, columns=200, TERM="dumb")
    assert dumb.end() == (0, True)
    assert "\x1b[?1049h" not in dumb.told
    assert plain.splitlines()[0] in terminal.told
    piped = subprocess.run([COMMAND, "replay", "--db", reports, WRONG], capture_output=True, check=True, text=True)
    assert piped.stdout == plain
