"""What the commands share: options, output, and opening a ledger."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ledger import private
from ledger.errors import Unreadable, invalid
from ledger.sqlite import SqliteStore
from ledger.times import from_text
from projections.file import views_path
from projections.history import AsOf

T = TypeVar("T")


class _Text(click.types.StringParamType):
    """Text that a ledger may hold: not what a shell passes on of bytes that are no UTF-8."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See ``click.ParamType``."""
        text = str(super().convert(value, param, ctx))
        try:
            text.encode()
        except UnicodeEncodeError:
            self.fail(f"{text!r} is not UTF-8.", param, ctx)
        return text


TEXT = _Text()
db_option = click.option(
    "--db",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="JOBLEDGER_DB",
    default=Path("ledger.db"),
    show_default=True,
    help="The ledger's file.  [env: JOBLEDGER_DB]",
)
at_option = click.option("--at", "when", help="As of a position, or of a time such as 2026-11-22T14:03:00Z.")
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, for programs.")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end."""
    return asyncio.run(work)


class _Results(Console):
    """A console that leaves it to ``Cli`` what happens when the reader stops listening; rich would exit with 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def out() -> Console:
    """Return the console for results: plain text when stdout is no terminal, and never cut off then."""
    width = None if sys.stdout.isatty() else 100_000
    return _Results(width=width, highlight=False, markup=False, emoji=False)


def say_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    click.echo(msgspec.json.encode(value).decode())


def clean(text: object) -> str:
    """Return text that a terminal shows and never obeys: control characters become their escapes."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in str(text))


def table(*names: str, header: bool = True) -> Table:
    """Return a table that folds long values on a narrow terminal and never cuts them off."""
    made = Table(box=None, show_header=header, pad_edge=False)
    for name in names:
        made.add_column(name, overflow="fold")
    return made


def bar(unit: str) -> Progress:
    """Return a progress bar on stderr, quiet when that is no terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def point(text: str | None, option: str) -> AsOf | None:
    """Return the point in history that an option names: a position or a time."""
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        if len(text) > 18:
            raise invalid(option, "is beyond any position")
        return AsOf(position=int(text))
    return AsOf(time_us=from_text(text, option))


def existing(db: Path) -> Path:
    """Return the path of a ledger that a command must not make; raise ``Unreadable`` where there is none."""
    if not db.exists():
        raise Unreadable(path=db, reason="there is no such file")
    return db


def check_target(db: Path, target: Path) -> None:
    """Raise ``UsageError`` where a result is to be written over a file of the ledger itself, or where there is none."""
    endings = ("", "-wal", "-shm", "-journal", ".signed", ".verified", ".callbacks", ".beats", ".writer", ".rebuild")
    own = {private.named_after(where, ending) for where in (db, views_path(db)) for ending in endings}
    own |= {private.beside(db, ending) for ending in (".key", ".pub", ".secret")}
    try:
        where = target.resolve()
    except RuntimeError as error:  # links that lead to each other
        raise Unreadable(path=target, reason="it is a link that leads nowhere") from error
    if where in own:
        raise click.UsageError(f"{target} belongs to the ledger; name another file.")


@asynccontextmanager
async def reading(db: Path) -> AsyncIterator[SqliteStore]:
    """Open a ledger file to read, without writing to it."""
    store = await SqliteStore.open(db, read_only=True)
    try:
        yield store
    finally:
        await store.close()
