"""What a log line tells of an error: enough to find it, and no word that somebody sent."""

import msgspec
import pytest

from ledger import engine as sqlite
from ledger.errors import StoreFailed
from server import faults
from server.callbacks.signing import new_secret

SENT = "Jane-Doe-of-Main-Street"


def raised(error, cause=None):
    """The error as it is caught, with its calls."""
    try:
        raise error from cause
    except type(error) as caught:
        return caught


def told(error):
    return faults.tell(None, "error", {"event": "x", "exc_info": error})["exception"]


@pytest.mark.parametrize("error", [KeyError(SENT), ValueError(f"invalid literal: '{SENT}'"), UnicodeError(SENT)])
def test_words_of_what_may_quote_a_request_are_left_out(error):
    text = told(raised(error, ValueError(SENT)))
    assert SENT not in text
    kind, call = text.splitlines()[:2]
    assert kind == type(error).__name__
    assert call.strip().startswith("tests/server/test_faults.py:")
    assert call.endswith(" raised")
    assert text.splitlines()[2] == "ValueError"


@pytest.mark.parametrize(
    "error", [StoreFailed(reason="disk full"), sqlite.OperationalError("disk full"), OSError("disk full")]
)
def test_words_of_the_ledger_the_database_and_the_system_are_told(error):
    assert "disk full" in told(raised(error)).splitlines()[0]


def test_secrets_are_hidden_and_long_words_cut():
    assert new_secret() not in told(raised(OSError(new_secret() * 2)))
    assert len(told(raised(OSError("x" * 10_000)))) < faults.WORDS_MAX + 200


def test_an_endless_chain_of_calls_and_causes_is_bounded():
    def deep(left):
        if left:
            return deep(left - 1)
        raise ValueError

    error = raised(OSError("a"), raised(OSError("b")))
    error.__cause__.__cause__ = error
    assert len(told(error).splitlines()) <= 2 * faults.CHAIN_MAX
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - it has no words
        deep(500)
    assert len(told(caught.value).splitlines()) == 1 + faults.FRAMES_MAX


async def test_a_request_that_fails_is_told_without_what_it_said(service, user, log_lines, monkeypatch):
    # given a mistake of ours that quotes what it was given
    async def mistaken(*asked, **more):
        raise KeyError(SENT, user.token)

    monkeypatch.setattr(service.app.ledger, "execute_plan", mistaken)
    # when
    answer = await user.post("/v1/jobs", json={"metadata": {"who": SENT}})
    # then
    assert answer.status == 500
    assert SENT not in answer.body.decode() + log_lines.getvalue().decode()
    (line,) = [each for each in map(msgspec.json.decode, log_lines.getvalue().splitlines()) if "exception" in each]
    assert (line["event"], line["request_id"]) == ("request.failed", answer.headers["X-Request-Id"])
    assert "mistaken" in line["exception"]
    assert "server/routes/" in line["exception"]
