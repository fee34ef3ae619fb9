"""Where each event's row stands in a ledger's file, byte by byte, as SQLite's file format says (2.1, B-tree pages)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ledger import engine

INNER, INDEX_INNER = 5, 2
"""Pages of a table, and of an index, that only lead to others."""


class Cell(NamedTuple):
    """The row of an event: its position, and where its cell begins, its record header, its values, and its end."""

    position: int
    begin: int
    header: int
    values: int
    end: int


def cells_of(path: Path) -> list[Cell]:
    """Return the cells of all events, in order; of rows that fit their page."""
    connection = engine.connect(path, read_only=True, immutable=True)
    (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'events'").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    return list(_walk(path.read_bytes(), root, size))


def _walk(raw: bytes, page: int, size: int) -> Iterator[Cell]:
    start = (page - 1) * size
    kind, count = raw[start], int.from_bytes(raw[start + 3 : start + 5], "big")
    first = start + (12 if kind == INNER else 8)
    for number in range(count):
        at = first + 2 * number
        cell = start + int.from_bytes(raw[at : at + 2], "big")
        if kind == INNER:
            yield from _walk(raw, int.from_bytes(raw[cell : cell + 4], "big"), size)
            continue
        length, after_length = _varint(raw, cell)
        position, header = _varint(raw, after_length)
        width, _ = _varint(raw, header)
        yield Cell(position, cell, header, header + width, header + length)
    if kind == INNER:
        yield from _walk(raw, int.from_bytes(raw[start + 8 : start + 12], "big"), size)


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = 0
    for number in range(9):
        byte = raw[at + number]
        if number == 8:
            return value << 8 | byte, at + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + number + 1
    raise AssertionError


def index_cells_of(path: Path, index: str) -> list[tuple[int, int]]:
    """Return begin and end of the records in the leaves of an index."""
    connection = engine.connect(path, read_only=True, immutable=True)
    (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (index,)).fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    return list(_walk_index(path.read_bytes(), root, size))


def _walk_index(raw: bytes, page: int, size: int) -> Iterator[tuple[int, int]]:
    start = (page - 1) * size
    is_inner = raw[start] == INDEX_INNER
    first = start + (12 if is_inner else 8)
    for number in range(int.from_bytes(raw[start + 3 : start + 5], "big")):
        at = first + 2 * number
        cell = start + int.from_bytes(raw[at : at + 2], "big")
        if is_inner:
            yield from _walk_index(raw, int.from_bytes(raw[cell : cell + 4], "big"), size)
        else:
            length, begin = _varint(raw, cell)
            yield begin, begin + length
    if is_inner:
        yield from _walk_index(raw, int.from_bytes(raw[start + 8 : start + 12], "big"), size)
