"""One cause has one signature, whatever differs from one time to the next; two causes have two."""

import random

import pytest

from projections import signature as signatures
from projections.signature import HEAD, MESSAGE_MAX, TAIL, error_type, mask, signature, tool_name

MASKED = [
    ("Error: Payment method credit_card_7334 not found", "Error: Payment method <id> not found"),
    ("User 1234567890 not found", "User <number> not found"),
    ("run-6f9c2a7e-3a52-4c1e-9d52-0f4c9a1b7d11 is gone", "<id> is gone"),
    ("total price is 375, but paid 299", "total price is <number>, but paid <number>"),
    ("took 12.5ms, 5% of $1,000", "took <number> … of <number>"),
    ("refused at 2026-11-22T03:45:26.918194Z", "refused at <time>"),
    ("refused on 2026-11-22 03:45:26 +0100 or at 3:45 pm", "refused on <time> or at <time>"),
    ("No such file: /var/lib/x/data-17.csv", "No such file: <path>"),
    (r"C:\Users\bob\x.txt is missing", "<path> is missing"),
    ("cannot open filesystem_data/pets.txt", "cannot open <path>"),
    ("503 from https://api.example.com:8443/v1/x?y=1#z", "<number> from <url>"),
    ("mail to ann.b+c@example.co.uk bounced", "mail to <address> bounced"),
    ("connection to 10.1.2.3:5432 refused", "connection to <number>:<number> refused"),
    ("KeyError: 'user_17'", "KeyError: <text>"),
    ('missing "a b" and `c` and “d” and ‘e’ and «f»', "missing <text> and <text> and <text> and <text> and <text>"),
    (r"bad 'it\'s' here", "bad <text> here"),
    ("tools: ['a', 'b', 'c'].", "tools: [<text> …]."),
    ("<object at 0x7f3a2b91>", "<object at <id>>"),
    ("  two\n\tlines  ", "two lines"),
    # What tells the cause stays.
    ("Error code: 429 - too many", "Error code: 429 - too many"),
    ("HTTP 503 Service Unavailable", "HTTP 503 Service Unavailable"),
    ("expected status=200, got status=500", "expected status=200, got status=500"),
    ("don't do that, it's wrong", "don't do that, it's wrong"),
    ("I/O error and/or timeout", "I/O error and/or timeout"),
    ("", ""),
]


@pytest.mark.parametrize(("message", "expected"), MASKED, ids=range(len(MASKED)))
def test_what_differs_from_time_to_time_is_masked(message, expected):
    assert mask(message) == expected


def test_the_name_of_the_tool_is_masked_where_its_error_repeats_it():
    made_up = 'grep_files<|constrain|>json<|message|>{"pattern":"year: 1995"}'
    expected = "[ToolConstraintError] Cannot call <tool>, valid tools include: [<text> …]."
    for name in ("grep_files", made_up, "x" * 7_000):
        error = f"[ToolConstraintError] Cannot call {name}, valid tools include: ['open_files', 'grep_files']."
        assert mask(error, name) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("grep_files", "grep_files"),
        ("mcp.server:do-it/now", "mcp.server:do-it/now"),
        ('grep_files<|constrain|>json<|message|>{"a": 1}', "grep_files"),
        ("open_files\x1b[2J", "open_files"),
        ("  {look}", "look"),
        ("🏃", "(unnamed)"),
        ("", "(unnamed)"),
        (None, "(unnamed)"),
        ("x" * 300, "x" * 63 + "…"),
    ],
)
def test_of_the_name_of_a_tool_the_part_counts_that_is_one(name, expected):
    assert tool_name(name) == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("KeyError: 'a'", "KeyError"),
        ("[ToolConstraintError] Cannot call it", "ToolConstraintError"),
        ("asyncio.exceptions.TimeoutError", "asyncio.exceptions.TimeoutError"),
        ('Traceback (most recent call last):\n  File "x.py", line 1\nhttpx.ReadTimeout: slow\n', "httpx.ReadTimeout"),
        ("Error: Order not found", None),
        ("the KeyError was not the reason", None),
        ("", None),
    ],
)
def test_the_type_of_an_error_is_read_from_where_it_is_told_first_or_last(message, expected):
    assert error_type(message) == expected


def test_a_long_message_is_known_by_both_its_ends():
    # given: one text between what the framework says, as in the format errors of tau2-bench
    said = [f"Invalid format. Original message: AssistantMessage content: {'so and so ' * n}. " for n in (200, 300)]
    end = "Error: " + "each message must contain text or calls of tools and never both of them " * 3
    # when
    first, second = (mask(each + end) for each in said)
    # then
    assert first == second
    assert len(first) == HEAD + TAIL + 3 < MESSAGE_MAX


def test_signatures_are_the_same_in_every_release_as_long_as_their_version_is():
    assert signatures.VERSION == 1
    assert [
        signature("run", "failed", "invalid_llm_response", "agent_error", None, "<id> not found"),
        signature("job", "expired", None, None, None, None),
        signature("tool", "error", None, "KeyError", "grep_files", "KeyError: <text>"),
    ] == ["f1-bf8e4b83a00e2bab", "f1-8a8a3773127b5e6c", "f1-de5c1244616809e0"]


def test_every_part_of_a_cause_tells_in_its_signature():
    parts = ("run", "failed", "error", "KeyError", "look", "no")
    changed = [parts, *((*parts[:place], None, *parts[place + 1 :]) for place in range(2, 6))]
    changed += [("step", *parts[1:]), ("run", "expired", *parts[2:])]
    assert len({signature(*each) for each in changed}) == len(changed)


def test_any_text_is_masked_in_bounded_size():
    chance = random.Random(20261126)
    alphabet = "aA0 .,:;/\\'\"`<>{}[]()@-+_%=\n\t\x00\x1b\u202e\U0001f3c3é‘’“”"
    for _ in range(2_000):
        text = "".join(chance.choices(alphabet, k=chance.randrange(400)))
        assert len(mask(text, text[:9])) <= MESSAGE_MAX
        assert error_type(text) is None or len(error_type(text)) <= 64


@pytest.mark.parametrize(
    "text", ["a" * 5_000_000, "'" * 5_000_000, "x@y " * 1_000_000, "/a" * 2_500_000, "7" * 5_000_000]
)
def test_five_megabytes_are_masked_by_their_ends(text):
    assert len(mask(text)) <= MESSAGE_MAX
