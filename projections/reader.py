"""What a question needs of the views, so that it is one and the same over HTTP and on the files alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol


class Place(NamedTuple):
    """One of the places where rows of a view are: a schema of the database, and the condition on those that count."""

    schema: str
    condition: str


class Reader(Protocol):
    """Reads views: those of a server (``Views``), or as they stand at the end of the log (``Overlay.reader``)."""

    async def read(self, text: str, parameters: dict[str, Any], *, is_long: bool = False) -> list[Any]:
        """Return the rows that a query finds. ``is_long``: it may work long where it cannot be broken off."""

    def places(self, name: str) -> Sequence[Place]:
        """Return where the rows of a view are, for what must name its table, as full-text search must."""


HERE: Final = (Place("main", "1"),)
"""Where all rows are in a views file itself."""
