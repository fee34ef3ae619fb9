"""The environments of the clients: made once, made anew when broken, and never half there."""

import fcntl
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.clients import environments
from tests.clients.environments import Unreachable, environment, is_sound, python_of

MODULE = "lib/python3/site-packages/a/__init__.py"
RECORD = "lib/python3/site-packages/a-1.dist-info/RECORD"
FILES = {
    MODULE: "x = 1\n",
    RECORD: "a/__init__.py,sha256=0,6\na/__pycache__/a.pyc,,\na-1.dist-info/RECORD,,\n",
    "installed": "1\n",
}


def write(place):
    """Make an environment by hand, around the Python that runs the tests."""
    for name, text in FILES.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    python_of(place).parent.mkdir()
    python_of(place).symlink_to(shutil.which("python3"))


def without(name):
    return lambda place: (place / name).unlink()


BREAKS = {
    "a file is gone": without(MODULE),
    "a file was cut off": lambda place: (place / MODULE).write_text("x"),
    "nothing is installed": without(RECORD),
    "the install broke off": without("installed"),
    "its python is gone": without("bin/python"),
    "its python does not run": lambda place: (without("bin/python")(place), (place / "bin/python").write_text("")),
}


def test_an_environment_that_has_all_its_files_is_sound(tmp_path):
    write(tmp_path)
    assert is_sound(tmp_path)


@pytest.mark.parametrize("break_it", BREAKS.values(), ids=BREAKS)
def test_an_environment_that_lacks_something_is_not_sound(tmp_path, break_it):
    write(tmp_path)
    break_it(tmp_path)
    assert not is_sound(tmp_path)


@pytest.fixture
def made(monkeypatch):
    """The places that were made, by hand."""
    made = []

    def make(place, version):
        made.append(place)
        shutil.rmtree(place, ignore_errors=True)
        write(place)

    monkeypatch.setattr(environments, "make", make)
    return made


def test_each_version_is_made_once_and_again_only_when_it_is_broken(tmp_path, made):
    one, two = environments.environments(["1", "2"], tmp_path).values()
    assert {environment("1", tmp_path), environment("2", tmp_path)} == {one, two}
    assert sorted(made) == sorted(python.parents[1] for python in (one, two))
    one.unlink()
    assert {environment("1", tmp_path), environment("2", tmp_path)} == {one, two}
    assert made[2:] == [one.parents[1]]


def test_who_comes_while_another_makes_it_waits_and_finds_it_there(tmp_path, made, monkeypatch):
    # given somebody who makes it
    arrived, flock = threading.Event(), fcntl.flock
    place = environment("1", tmp_path).parents[1]
    shutil.rmtree(place)
    made.clear()
    with (tmp_path / f"{place.name}.lock").open("w") as lock, ThreadPoolExecutor() as threads:
        flock(lock, fcntl.LOCK_EX)
        monkeypatch.setattr(fcntl, "flock", lambda *how: (arrived.set(), flock(*how)))
        # when
        waiting = threads.submit(environment, "1", tmp_path)
        assert arrived.wait(60)
        write(place)
        flock(lock, fcntl.LOCK_UN)
        # then
        assert waiting.result(60) == python_of(place)
    assert made == []


@pytest.fixture
def offline(monkeypatch):
    """A registry that cannot be reached, and no other."""
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "CI"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (("CONFIG_FILE", "/dev/null"), ("INDEX_URL", "http://127.0.0.1:9/simple"), ("RETRIES", "1")):
        monkeypatch.setenv(f"PIP_{name}", value)


def test_without_the_registry_the_clients_are_not_tested_and_it_is_said_why(tmp_path, offline):
    with pytest.raises(pytest.skip.Exception, match=r"letta-client cannot be installed: .*1\.12\.1"):
        environments.environments(["1.12.1"], tmp_path)


def test_in_ci_it_is_a_failure_that_the_registry_cannot_be_reached(tmp_path, offline, monkeypatch):
    monkeypatch.setenv("CI", "true")
    with pytest.raises(Unreachable):
        environments.environments(["1.12.1"], tmp_path)


def test_what_the_registry_does_not_have_is_a_failure_everywhere(tmp_path, offline, monkeypatch):
    (tmp_path / "packages").mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "packages"))
    with pytest.raises(RuntimeError, match=r"pip could not install letta-client 1\.12\.1"):
        environments.environments(["1.12.1"], tmp_path)
    assert not is_sound(next(tmp_path.glob("1.12.1-*/")))
