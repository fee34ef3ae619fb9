"""Whatever bytes come, and however they are cut: no answer too many, nothing done that was not asked in one meaning."""

import gzip
import random

import pytest

from tests.fuzz.attack import Target, attack
from tests.fuzz.framings import AUTH, BODY, GET, HOST, conversation
from tests.fuzz.wire import BROKEN, LOOPS, NO_BODY, NO_HEAD, Asked, Said, answers, check, read, wire

SEED, INPUTS = 7, 330
"""With these each kind of event loop takes about 2 s of one core; ``scripts/fuzz`` looks for longer."""
POST = b"POST /v1/jobs HTTP/1.1\r\n" + HOST + AUTH
SIZED, CHUNKED = b"Content-Length: 49\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"
FIRST, SECOND = (POST + SIZED + BODY % number for number in (0, 1))
PACKED = b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnone"


@pytest.fixture(scope="module", params=LOOPS)
def target(request):
    with wire(request.param, LOOPS[request.param]) as target:
        yield target


def test_hostile_bytes_are_answered_as_what_they_are_and_nothing_is_smuggled(target):
    tally = attack(target, SEED, range(INPUTS))
    assert not tally.failures, "\n".join(map(str, tally.failures))


FOUND = {
    "a trailer that is the next one's token": POST + CHUNKED + b"31\r\n%s\r\n0\r\n%s\r\nGET /v1/jobs HTTP/1.1\r\n%s\r\n"
    % (BODY % 0, AUTH, HOST),
    "a request behind one for another protocol": GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + SECOND,
    "half a request behind one for another protocol": GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + POST
    + b"Content-Length: 200\r\n\r\n" + SECOND,
    "a coding below chunks": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n31\r\n%s\r\n0\r\n\r\n" % (BODY % 0),
    "chunks in HTTP/1.0": POST.replace(b"1.1", b"1.0") + CHUNKED + b"31\r\n%s\r\n0\r\n\r\n" % (BODY % 0),
    "a version that is none": POST.replace(b"1.1", b"0.9") + SIZED + BODY % 0,
    "to go on in HTTP/1.0": POST.replace(b"1.1", b"1.0") + b"Expect: 100-continue\r\n" + SIZED + BODY % 0,
    "a body that is not packed": FIRST + GET + PACKED + SECOND,
    "nothing readable behind a body that is not packed": FIRST + GET + PACKED + b"BREW / HTTP/1.1\r\n\r\n",
    "a packed body without its end": POST + b"Content-Encoding: gzip\r\nContent-Length: 44\r\n\r\n" + gzip.compress(BODY % 0, mtime=0)[:44],
    "a third one cut off in its body": FIRST + SECOND + (POST + SIZED + BODY % 2)[:-1],
    "a third one cut off in its chunks": FIRST + SECOND + POST + CHUNKED + b"31\r\n" + BODY % 2,
    "a second one that is too long": FIRST + POST + b"Content-Length: 949\r\n\r\n" + BODY % 1,
    "a second one whose chunks are none": FIRST + POST + CHUNKED + b"31\r\n%s0\r\n\r\n" % (BODY % 1),
}  # fmt: skip
"""What the fuzzer found, made small."""


@pytest.mark.parametrize("what", FOUND)
def test_what_was_found_stays_mended_however_it_is_cut(target, what):
    """How bytes are cut, and what the client does then, follows from them: another number is another way."""
    again = Target(target.name, target.feed, list, make=lambda chance: b"\r\n" * chance.randrange(40) + FOUND[what])
    tally = attack(again, SEED, range(8))
    assert not tally.failures, "\n".join(map(str, tally.failures))


def test_two_requests_that_are_cut_off_at_any_byte_do_as_much_as_is_whole(target):
    whole = FIRST + POST + CHUNKED + b"31\r\n%s\r\n0\r\nX-A: b\r\n\r\n" % (BODY % 1)
    made = iter(range(len(whole) + 1))
    every = Target(target.name, target.feed, list, make=lambda chance: whole[: next(made)])
    tally = attack(every, SEED, range(len(whole) + 1))
    assert not tally.failures, "\n".join(map(str, tally.failures))


# --- the reader -------------------------------------------------------------------------------------------------------


def test_the_reader_takes_what_has_one_meaning():
    old = b"GET / HTTP/1.0\r\n\r\n"
    asked, end = read(
        b"\r\n" + FIRST + GET + b"\r\n" + POST + CHUNKED + b"31;a=b\r\n%s\r\n0\r\nX-A: b\r\n\r\n" % (BODY % 1) + old
    )
    assert (len(asked), end) == (4, "clean")
    assert [each.is_last for each in asked] == [False, False, True, True]


@pytest.mark.parametrize(
    ("raw", "end"),
    [
        (POST + b"Content-Length: 49\r\nContent-Length: 49\r\n\r\n" + BODY % 0, BROKEN),
        (POST + b"Content-Length: 49\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", BROKEN),
        (POST + b"Content-Length: +49\r\n\r\n" + BODY % 0, BROKEN),
        (POST + b"X-A: b\r\n c\r\n\r\n", BROKEN),
        (POST + b"X-A : b\r\n\r\n", BROKEN),
        (GET + HOST + b"\r\n", BROKEN),
        (b"GET / HTTP/1.1\r\n\r\n", BROKEN),
        (GET, NO_HEAD),
        (POST + SIZED + (BODY % 0)[:-1], NO_BODY),
        (POST + CHUNKED + b"31\r\n%s0\r\n\r\n" % (BODY % 0), NO_BODY),
        (POST + CHUNKED + b"0\r\n", NO_BODY),
    ],
)
def test_the_reader_gives_up_where_there_are_two_meanings_or_none(raw, end):
    asked, found = read(FIRST + raw + SECOND * (end == BROKEN))
    assert (len(asked), found) == (1, end)


OK = Said(200, {"x-request-id": "req-1", "content-length": "2"}, b"{}")
CLOSED = Said(200, {**OK.headers, "connection": "close"}, b"{}")
ONE = Asked(b"GET", b"1", {}, frozenset())


@pytest.mark.parametrize(
    ("asked", "end", "said", "recorded", "why"),
    [
        ([ONE], "clean", [OK, OK], set(), "more answers than requests"),
        ([ONE, ONE], "clean", [CLOSED, OK], set(), "behind the last one"),
        ([], BROKEN, [OK], set(), "answered like one"),
        ([ONE], "clean", [OK], {"job-1"}, "nobody asked for"),
        ([Asked(b"GET", b"1", {b"x-request-id": b"a"}, frozenset())], "clean", [OK], set(), "another's answer"),
    ],
)
def test_the_check_sees_what_must_not_be(asked, end, said, recorded, why):
    with pytest.raises(AssertionError, match=why):
        check(asked, end, said, recorded)


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX:\n\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
def test_an_answer_that_is_no_http_is_seen(sent):
    with pytest.raises(AssertionError):
        answers(sent, [ONE])


def test_the_same_seed_makes_the_same_conversation():
    first, second, other = (conversation(random.Random(seed)) for seed in (1, 1, 2))
    assert first == second != other
