"""``jobledger serve``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from server.callbacks.addresses import Rules
from server.callbacks.schedule import WAITS_S, Schedule
from server.cli.options import bar, db_option


@click.command()
@db_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8283, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 picks a free one."
)
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Processes that serve, at most one a core: reads are shared out among them, writes are not faster.",
)
@click.option(
    "--connections-max",
    default=8000,
    show_default=True,
    type=click.IntRange(1),
    help="Open connections of a worker; those beyond are told health alone, and to come again.",
)
@click.option(
    "--callback-allow",
    multiple=True,
    metavar="CIDR[:PORT]",
    help="Let callbacks go to addresses that are not public, such as 127.0.0.1:9000 or 10.0.0.0/8. Repeatable.",
)
@click.option(
    "--callback-schedule",
    default=",".join(f"{wait_s:g}" for wait_s in WAITS_S),
    show_default=True,
    metavar="S,S,…",
    help="Seconds to wait after each failed attempt of a callback; `none`: one attempt.",
)
@click.option(
    "--callback-timeout",
    default=15.0,
    show_default=True,
    type=click.FloatRange(0.1, 300.0),
    help="Seconds that a receiver of callbacks may take to answer.",
)
@click.option(
    "--callbacks/--no-callbacks", default=True, help="Send callbacks, or leave what is owed to another server."
)
def serve(
    db: Path,
    host: str,
    port: int,
    workers: int,
    connections_max: int,
    callback_allow: tuple[str, ...],
    callback_schedule: str,
    callback_timeout: float,
    callbacks: bool,
) -> None:
    """Serve the ledger over HTTP. On an empty ledger an admin token is made and printed, once.

    Stops cleanly on SIGTERM and SIGINT: what was taken on is answered first.

    Callbacks are signed (see `jobledger callbacks secret`) and go to public addresses alone, unless more is allowed.

    \b
    Examples:
      jobledger serve --db ledger.db --port 8283
      jobledger serve --host 0.0.0.0 --workers 4
      jobledger serve --callback-allow 127.0.0.1:9000 --callback-schedule 5,60,600
    """
    from server import logs  # a fifth of a second, which no other command needs
    from server import serve as serving
    from server.config import Config

    logs.configure()
    config = Config(
        db=db,
        host=host,
        port=port,
        workers=workers,
        connections_max=connections_max,
        callbacks=callbacks,
        callback_rules=Rules.parse(callback_allow),
        callback_schedule=Schedule.parse(callback_schedule),
        callback_timeout_s=callback_timeout,
    )
    sys.exit(serving.run(config, click.echo, _showing))


@contextmanager
def _showing() -> Iterator[Callable[[int, int], None]]:
    """Show how far the views are, while they are behind the log."""
    with bar("events") as progress:
        task = progress.add_task("views", total=None, visible=False)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, visible=done < total)

        yield show


COMMANDS = (serve,)
