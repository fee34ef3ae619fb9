"""The parent of workers, with workers that do nothing but what a test wants of them."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

PATIENCE_S = 60.0
SCRIPT = """
import os, pathlib, signal, sys
from server import logs, sockets, workers
logs.configure()
workers.RETRY_S = (0.0, 0.0)
lives = pathlib.Path(sys.argv[1])


def say(text):
    os.write(1, f"{text}\\n".encode())


def serve(place):
    place.ready()
    signal.sigwait({signal.SIGTERM})


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
RUN = """
sys.exit(workers.Parent(shares, work, lambda: say("begun"), 30.0).run())
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
