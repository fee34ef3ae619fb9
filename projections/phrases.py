"""What somebody asks for in words: read by rules of our own, so that no text of theirs is ever SQL or syntax of FTS5.

Words that are all to be there, ``"phrases"``, ``OR`` between two of them, ``-`` before what must not be there, ``*``
behind the beginning of a word. Whatever else is typed only parts words, as it does in the texts.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from ledger.errors import invalid

QUERY_SIZE_MAX: Final = 256
"""Characters of a query, as of any text parameter."""
TERMS_MAX: Final = 32
"""Words and phrases of a query: more would be a text, and each is looked up."""
PREFIX_MIN: Final = 2
"""Characters before a ``*``: all words that begin with one letter are too many to be put together while one waits."""
HELP: Final = 'words, "a phrase", either OR other, -without, begin*'
SNIPPET_SIZE: Final = 240
"""Characters of a snippet, some three lines of a terminal."""
_BEFORE: Final = 60
"""Characters of a snippet before the first word that was found."""
_MARKS_MAX: Final = 500
"""Places of a text among which the best one for a snippet is looked for."""
_TERM = re.compile(r'(-?)(?:"([^"]*)(?:"|$)|([^\s"]+))(\*?)')
_NOT_SAID = re.compile("[\0\ud800-\udfff]")
"""What SQLite does not take and no text has: NUL, and surrogates, which stand for bytes of a shell that are no text."""
_WORD = re.compile("(?:[^\\W_][\u0300-\u036f]*)+")
_GOES_ON, _ENDS = r"[^\W_]*", r"(?![^\W_])"
_ACCENTS: Final = "[\u0300-\u036f]{0,8}"
"""Accents that stand behind their letter; a text may have any number, and few are meant."""
_BETWEEN: Final = r"[\W_]{1,64}"
"""What parts the words of a phrase; bounded, as a text may have nothing else."""


class Part(msgspec.Struct, frozen=True):
    """A part of a snippet, plain text on one line; ``hit``: whether it is what was looked for."""

    text: str
    hit: bool


class Term(NamedTuple):
    """A word or phrase as it was typed, and its words. ``begins``: the last one may go on."""

    text: str
    words: tuple[str, ...]
    begins: bool

    @property
    def match(self) -> str:
        """The term in the language of FTS5: a string, which it takes apart as it did the texts, and nothing else."""
        quoted = _NOT_SAID.sub(" ", self.text.replace('"', '""'))
        return f'"{quoted}"{" *" if self.begins else ""}'

    @property
    def pattern(self) -> str:
        """The term as a regular expression on folded text."""
        words = ("".join(f"{re.escape(char)}{_ACCENTS}" for char in fold(word)) for word in self.words)
        return rf"(?<![^\W_]){_BETWEEN.join(words)}" + (_GOES_ON if self.begins else _ENDS)


class Phrase:
    """A query, understood. Raises ``InvalidInput`` where it names nothing to find, or too much."""

    def __init__(self, text: str, where: str = "query") -> None:
        self._groups: list[list[Term]] = []
        """Of each group one term must be there."""
        self._without: list[Term] = []
        if len(text) > QUERY_SIZE_MAX:
            raise invalid(where, f"must have 1 to {QUERY_SIZE_MAX} characters", HELP)
        self._read(text, where)
        if not self._groups:
            raise invalid(where, "names no word to find", HELP)
        if sum(map(len, self._groups)) + len(self._without) > TERMS_MAX:
            raise invalid(where, f"has more than {TERMS_MAX} words and phrases", HELP)
        wanted = sorted({term.pattern for group in self._groups for term in group}, key=len, reverse=True)
        self._pattern = re.compile("|".join(f"({each})" for each in wanted))

    def _read(self, text: str, where: str) -> None:
        is_either = False
        for found in _TERM.finditer(text):
            excluded, quoted, plain, star = found.groups()
            if plain == "OR" and not excluded and self._groups:
                is_either = True
                continue
            term = _term(quoted if plain is None else plain, has_star=bool(star))
            if term is None:
                continue
            if term.begins and len(term.words[-1]) < PREFIX_MIN:
                raise invalid(where, f"must have at least {PREFIX_MIN} letters or digits before a *", HELP)
            if excluded and not (plain or "").startswith("-"):  # else it is an option of some command
                self._without.append(term)
            elif is_either:
                self._groups[-1].append(term)
            else:
                self._groups.append([term])
            is_either = False

    @property
    def rarest(self) -> str:
        """A word that is likely to be in what is found, and not everywhere in it."""
        return fold(max((word for group in self._groups for word in group[0].words), key=len))

    def match(self, columns: tuple[str, ...]) -> str:
        """Return the expression of FTS5 that finds it in some columns."""
        groups = (f"({' OR '.join(term.match for term in group)})" for group in self._groups)
        wanted = f"({' AND '.join(groups)})"
        without = " OR ".join(term.match for term in self._without)
        return f"{{{' '.join(columns)}}} : ({wanted}{f' NOT ({without})' if without else ''})"

    def snippet(self, text: str) -> tuple[int, list[Part]]:
        """Return how many of the terms are found in a text, and the part of it that has most of them."""
        found = list(islice(self._pattern.finditer(fold(text)), _MARKS_MAX))
        start, marks = _best(found)
        end = max(start + SNIPPET_SIZE, marks[-1].end() if marks else 0)
        parts: list[Part] = []
        at, dots = start, "…" if start else ""
        for mark in marks:
            parts.append(Part(dots + _flat(text[at : mark.start()]), hit=False))
            parts.append(Part(_flat(text[mark.start() : mark.end()]), hit=True))
            at, dots = mark.end(), ""
        parts.append(Part(dots + _flat(text[at:end]) + ("…" if end < len(text) else ""), hit=False))
        return len({mark.lastindex for mark in found}), [part for part in parts if part.text]


def _term(text: str, *, has_star: bool) -> Term | None:
    """Return a word or phrase, None where the text has neither letter nor digit."""
    words = tuple(_bare(word) for word in _WORD.findall(text))
    return Term(text, words, begins=has_star or text.endswith("*")) if words else None


def _bare(word: str) -> str:
    """Return a word without accents that stand behind their letters."""
    return "".join(char for char in unicodedata.normalize("NFC", word) if not unicodedata.combining(char))


def _best(found: list[re.Match[str]]) -> tuple[int, list[re.Match[str]]]:
    """Return where a snippet begins that shows most terms, most often, and those places of them that it shows."""
    best: list[re.Match[str]] = []
    worth = (0, 0)
    for number, first in enumerate(found):
        end = first.start() - _BEFORE + SNIPPET_SIZE
        shown = [first]
        for mark in islice(found, number + 1, None):
            if mark.end() > end:
                break
            shown.append(mark)
        found_here = (len({mark.lastindex for mark in shown}), len(shown))
        if found_here > worth:
            best, worth = shown, found_here
    return (max(0, best[0].start() - _BEFORE), best) if best else (0, [])


def _flat(text: str) -> str:
    """Return text on one line."""
    return re.sub(r"\s+", " ", text)


class _Folded(dict[int, str]):
    """What a character is compared as: one character, small and without accents, about as FTS5 does."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        base = unicodedata.normalize("NFD", char)[0] if not unicodedata.combining(char) else char
        folded = base.lower()
        self[code] = folded if len(folded) == 1 else char
        return self[code]


_FOLDED: Final = _Folded()


def fold(text: str) -> str:
    """Return text as words are compared, with as many characters as before."""
    return text.lower() if text.isascii() else text.translate(_FOLDED)
