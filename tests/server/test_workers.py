"""The parent of workers, with workers that do nothing but what a test wants of them."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

PATIENCE_S = 60.0
SCRIPT = """
import os, pathlib, signal, sys, time
from server import logs, sockets, workers
logs.configure()
workers.RETRY_S = (0.0, 0.0)
hung_after_s = float("inf")
lives = pathlib.Path(sys.argv[1])


def say(text):
    os.write(1, f"{text}\\n".encode())


def serve(place):
    place.ready()
    signal.sigwait({signal.SIGTERM})


def live(place, turns=-1):
    "Show life until told to stop, or so many times; tell whether that was all."
    while turns and signal.sigtimedwait({signal.SIGTERM}, 0.05) is None:
        place.show_life()
        turns -= 1
    return not turns


def begun():
    say("begun")


def begin(place):
    "Return which life of this worker it is, and let signals wait for it."
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
    number = sum(each.name.startswith(f"{place.number}-") for each in lives.iterdir()) + 1
    (lives / f"{place.number}-{number}").touch()
    return number


shares = sockets.bind("127.0.0.1", 0, 2)
port = shares[0][0].getsockname()[1]
"""
ENDS_EARLY = """
replaced, replacing = os.pipe()

def work(place):
    life = begin(place)
    if place.number == 2:
        os.read(replaced, 1)  # it begins after the first worker has ended
    elif life == 1:
        place.ready()
        os._exit(9)
    else:
        os.write(replacing, b"r")
    serve(place)
"""
NO_ROOM = """
fork, calls = os.fork, []

def crowded():
    calls.append(1)
    if len(calls) in (3, 4):
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return fork()

os.fork = crowded

def work(place):
    if begin(place) == 1 and place.number == 2:
        place.ready()
        os._exit(9)
    if place.number == 2:
        say("again")
    serve(place)
"""
SLOW_TO_STOP = """
signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # for the parent, who gets it too

def work(place):
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    begin(place)
    serve(place)
    for each in place.sockets:
        each.close()
    say(f"stops {port}")
    signal.sigwait({signal.SIGUSR1})
"""
DIES_STOPPING = """
def work(place):
    begin(place)
    serve(place)
    os.kill(os.getpid(), signal.SIGKILL)
"""
HANGS = """
hung_after_s = 2.0

def work(place):
    life = begin(place)
    place.ready()
    if (place.number, life) == (2, 1):
        signal.sigwait({signal.SIGUSR1})
    if place.number == 2:
        say("again")
    live(place)
"""
SLOW_TO_START = """
hung_after_s = 2.0
later, go = os.pipe()

def work(place):
    begin(place)
    if place.number == 2:
        os.read(later, 1)
    place.ready()
    if live(place, 80 if place.number == 1 else -1):  # for twice as long as one that hangs is left alone
        os.write(go, b"g")
        live(place)
"""
SLEEPS = """
hung_after_s = 30.0
hours = pathlib.Path(f"{lives}.hours")

class Clock:
    "It goes on by an hour when the file of hours is there, and says when the parent has looked often after that."
    looks = 0

    def monotonic(self):
        if not hours.exists():
            return time.monotonic()
        self.looks += 1
        if self.looks == 100:
            say("looked")
        return time.monotonic() + 3600.0

workers.time = Clock()

def work(place):
    begin(place)
    place.ready()
    live(place)
"""
SLEEPS_UNSEEN = """
def begun():
    hours.touch()
"""
RUN = """
sys.exit(workers.Parent(shares, work, begun, 30.0, hung_after_s).run())
"""


class Running:
    """A parent and its workers, which end with the test, or when its patience does."""

    def __init__(self, work, lives):
        command = (sys.executable, "-c", SCRIPT + work + RUN, str(lives))
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
        self._lives = lives
        self._patience = threading.Timer(PATIENCE_S, self.kill)
        self._patience.start()

    def hears(self, text):
        """Return the rest of the line that begins so, once one of them said it."""
        for line in self.process.stdout:
            if line.startswith(text):
                return line.removeprefix(text).strip()
        raise AssertionError(f"nobody said '{text}': {self.process.stderr.read()}")

    def lives(self):
        return sorted(each.name for each in self._lives.iterdir())

    def sleep_an_hour(self):
        self._lives.with_name(f"{self._lives.name}.hours").touch()

    def logged(self, event):
        """The lines of the log with that event, once it has ended."""
        return [line for line in map(json.loads, self.log.splitlines()) if line["event"] == event]

    def stop(self):
        self.process.terminate()
        return self.end()

    def end(self):
        _, self.log = self.process.communicate()
        return self.process.returncode

    def kill(self):
        self._patience.cancel()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


@pytest.fixture
def running(tmp_path):
    started = []

    def start(work):
        started.append(Running(work, tmp_path))
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.process.communicate()


def test_the_first_worker_is_replaced_also_where_it_ends_before_the_others_have_begun(running):
    parent = running(ENDS_EARLY)
    parent.hears("begun")
    assert parent.stop() == 0, parent.log
    assert parent.lives() == ["1-1", "1-2", "2-1"]


def test_a_system_without_room_for_a_worker_ends_no_other_one_and_it_is_tried_again(running):
    parent = running(NO_ROOM)
    parent.hears("again")
    assert parent.stop() == 0, parent.log
    assert parent.log.count("worker.not_started") == 2
    assert parent.lives() == ["1-1", "2-1", "2-2"]


def test_who_connects_while_workers_end_what_they_began_is_refused_and_not_kept_waiting(running):
    parent = running(SLOW_TO_STOP)
    parent.hears("begun")
    parent.process.terminate()
    ports = {int(parent.hears("stops")) for _ in range(2)}
    for port in ports:
        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            pass
    os.killpg(parent.process.pid, signal.SIGUSR1)
    assert parent.end() == 0, parent.log


def test_a_worker_that_dies_of_its_stop_is_no_success(running):
    parent = running(DIES_STOPPING)
    parent.hears("begun")
    assert parent.stop() == 1, parent.log


def test_a_worker_that_hangs_is_killed_and_replaced_and_no_other_one(running):
    parent = running(HANGS)
    parent.hears("again")
    assert parent.stop() == 0, parent.log
    assert parent.lives() == ["1-1", "2-1", "2-2"]
    (hung,) = parent.logged("worker.hung")
    (died,) = parent.logged("worker.died")
    assert (hung["worker"], hung["pid"]) == (2, died["pid"])
    assert died["code"] == -signal.SIGKILL
    assert hung["silent_s"] >= 2.0


def test_a_start_may_take_longer_than_a_worker_may_be_silent(running):
    parent = running(SLOW_TO_START)
    parent.hears("begun")
    assert parent.stop() == 0, parent.log
    assert parent.lives() == ["1-1", "2-1"], parent.log
    assert not parent.logged("worker.hung")


def test_time_in_which_the_parent_was_not_awake_is_no_silence_of_its_workers(running):
    # given a parent for which an hour passes between one look and the next, in which it hears nobody
    parent = running(SLEEPS + SLEEPS_UNSEEN)
    parent.hears("looked")
    assert parent.stop() == 0, parent.log
    assert parent.lives() == ["1-1", "2-1"], parent.log
    assert not parent.logged("worker.hung")


def test_workers_that_were_stopped_together_with_their_parent_go_on(running):
    parent = running(SLEEPS)
    parent.hears("begun")
    os.killpg(parent.process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, parent.process.pid, os.WSTOPPED | os.WNOWAIT)
    parent.sleep_an_hour()
    os.killpg(parent.process.pid, signal.SIGCONT)
    parent.hears("looked")
    assert parent.stop() == 0, parent.log
    assert parent.lives() == ["1-1", "2-1"], parent.log
    assert not parent.logged("worker.hung")
