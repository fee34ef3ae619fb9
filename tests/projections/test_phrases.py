"""Queries: what they mean, and that no text of anybody can be more than words."""

import re
import time
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import engine as sqlite
from ledger.errors import InvalidInput
from projections.documents import WHATS
from projections.phrases import QUERY_SIZE_MAX, SNIPPET_SIZE, Phrase, fold

TOKENS = "tokenize = 'unicode61 remove_diacritics 2'"
FTS = f"CREATE VIRTUAL TABLE words USING fts5(message, error, tool, metadata, {TOKENS})"

TEXT = "Résumé of get_user_details: Not found, error-code 42; the end of b c"


@pytest.fixture(scope="module")
def db():
    connection = sqlite.library.connect(":memory:")
    connection.execute(FTS)
    connection.execute("INSERT INTO words (message) VALUES (?)", (TEXT,))
    yield connection
    connection.close()


def finds(db, query, columns=WHATS):
    return bool(db.execute("SELECT 1 FROM words WHERE words MATCH ?", (Phrase(query).match(columns),)).fetchall())


@pytest.mark.parametrize(
    ("query", "is_found", "marked"),
    [
        ("error", True, ["error"]),
        ("ERROR the", True, ["error", "the"]),
        ("error absent", False, ["error"]),
        ("absent OR error", True, ["error"]),
        ("absent OR missing OR error the", True, ["error", "the"]),
        ("absent OR missing", False, []),
        ("or absent", False, []),
        ("error OR", True, ["error"]),
        ("error -absent", True, ["error"]),
        ("error -found", False, ["error"]),
        ('error -"found not"', True, ["error"]),
        ('error -"not found"', False, ["error"]),
        ("error --found", True, ["found", "error"]),
        ('"not found"', True, ["Not found"]),
        ('"found not"', False, []),
        ('"not found', True, ["Not found"]),
        ("get_user_details", True, ["get_user_details"]),
        ("get-user.details", True, ["get_user_details"]),
        ("user", True, ["user"]),
        ("use", False, []),
        ("use*", True, ["user"]),
        ('"get us"*', True, ["get_user"]),
        ("resume", True, ["Résumé"]),
        ("re\u0301sume\u0301", True, ["Résumé"]),
        ("42", True, ["42"]),
        ("error AND the", False, ["error", "the"]),
        ("error NOT found", True, ["Not", "found", "error"]),
        ("NEAR(error code)", False, ["code"]),
        ("message:error", False, []),
        ("{error} : the", True, ["error", "the"]),
        ("error^ + the ! ' ; --", True, ["error", "the"]),
        ('er"ror', False, []),
        ("er\0ror", False, []),
        ("error\0code", True, ["error-code"]),
        ("error\udcffcode", True, ["error-code"]),
        ("☃ error 🦉", True, ["error"]),
    ],
)
def test_a_query_means_what_it_says(db, query, is_found, marked):
    assert finds(db, query) == is_found
    count, parts = Phrase(query).snippet(TEXT)
    hits = [part.text for part in parts if part.hit]
    assert sorted(hits) == sorted(marked)
    assert (count > 0) == bool(hits)
    assert "".join(part.text for part in parts) == TEXT


def test_columns_are_looked_at_alone(db):
    assert finds(db, "error the", ("message", "tool"))
    assert not finds(db, "error the", ("error", "tool"))


@pytest.mark.parametrize("query", ["", " ", "-x", '""', "...", "☃ 🦉", "\0", "- -a --", "a*", '"b c"*', "x " * 33,
                                   "x" * (QUERY_SIZE_MAX + 1)])  # fmt: skip
def test_a_query_that_names_nothing_or_too_much_is_told_what_to_give(query):
    with pytest.raises(InvalidInput) as refused:
        Phrase(query)
    (fault,) = refused.value.facts["faults"]
    assert (fault["where"], "begin*" in fault["allowed"]) == ("query", True)


@settings(max_examples=600, deadline=None, derandomize=True, database=None)
@given(st.text(max_size=40) | st.text('ab-*"() {}:^+OR ND', max_size=40))
def test_no_text_is_ever_more_than_words(query):
    try:
        phrase = Phrase(query)
    except InvalidInput:
        return
    with closing(sqlite.library.connect(":memory:")) as connection:
        connection.execute(FTS)
        connection.execute("INSERT INTO words (message) VALUES ('a b')")
        connection.execute("SELECT rowid FROM words WHERE words MATCH ?", (phrase.match(WHATS),)).fetchall()
    phrase.snippet(query)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.text(max_size=600))
def test_a_snippet_is_short_plain_and_from_the_text(text):
    _, parts = Phrase("a OR ee* OR 1").snippet(text)
    whole = "".join(part.text for part in parts)
    longest = max((len(part.text) for part in parts if part.hit), default=0)
    assert len(whole) <= SNIPPET_SIZE + longest + len("……")
    assert whole.removeprefix("…").removesuffix("…").strip() in " ".join(re.split(r"\s+", text))
    assert len(fold(text)) == len(text)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ('"e f"', "e" + "\u0301" * 100_000),
        ("e" * 200, "e\u0301" * 50_000),
        ('"' + "e " * 120 + 'f"', "e " * 20_000),
        ("aa*", "aa " * 50_000),
        ('"a b"', "a" + " " * 100_000),
    ],
)
def test_a_text_that_is_made_to_be_slow_is_not(query, text):
    began = time.process_time()
    Phrase(query).snippet(text)
    assert time.process_time() - began < 2
