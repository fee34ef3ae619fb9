"""``jobledger serve``."""

from __future__ import annotations

from pathlib import Path

import click

from server import logs
from server import serve as serving
from server.cli.options import bar, db_option
from server.config import Config


@click.command()
@db_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8283, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 picks a free one."
)
def serve(db: Path, host: str, port: int) -> None:
    """Serve the ledger over HTTP. On an empty ledger an admin token is made and printed, once.

    Stops cleanly on SIGTERM and SIGINT: what was taken on is answered first.

    \b
    Example:
      jobledger serve --db ledger.db --port 8283
    """
    logs.configure()
    with bar("events") as progress:
        task = progress.add_task("views", total=None, visible=False)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, visible=done < total)

        serving.run(Config(db=db, host=host, port=port), click.echo, show)


COMMANDS = (serve,)
