"""``jobledger report``: why did this run end as it did? From the file alone."""

from __future__ import annotations

from pathlib import Path

import click

from projections.report import report as report_of
from server.cli.evidence import STDIN, write
from server.cli.options import check_target, db_option, json_option, out, run, say_json
from server.cli.reading import history
from server.cli.reportlines import show


@click.command(short_help="Why did it end so? Errors, loops, gaps, steps, timeline.")
@db_option
@json_option
@click.option("--html", "target", metavar="FILE", help="One file to look at and to send to others; - is stdout.")
@click.option("--full", is_flag=True, help="All steps and events, and texts whole.")
@click.argument("id")
def report(db: Path, as_json: bool, target: str | None, full: bool, id: str) -> None:
    """Report on a run, job or batch: how it ended and why, on the first screen; then all that happened.

    It names the first error, the last good step, calls repeated in loops, retries, refused changes, who cancelled it,
    the longest gaps and each attempt at its callback. Time in the queue and idle time stand apart from work. Long texts
    and histories are shortened unless you ask for all.

    \b
    Examples:
      jobledger report run-6f9c…
      jobledger report run-6f9c… --full | less
      jobledger report run-6f9c… --html run.html
    """
    if as_json and target is not None:
        raise click.UsageError("--json and --html do not go together; give one of them.")
    if target is not None and target != STDIN:
        check_target(db, Path(target))
    name, events = run(history(db, id, "job", "run"))
    made = report_of(events, full=full)
    if as_json:
        say_json(made)
    elif target is None:
        show(out(), made, full)
    else:
        from server.html.reportpage import page  # it takes a while to load, and only this needs it

        write(target, page(made, name, full=full).encode())
        if target != STDIN:
            click.echo(target, err=True)


COMMANDS = (report,)
