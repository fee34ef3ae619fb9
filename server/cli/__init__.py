"""The command line: ``jobledger COMMAND``, on the file alone, without a server or beside a running one."""

from __future__ import annotations

import os
import sys

import click

from ledger import engine as sqlite
from ledger.errors import LedgerError
from server.cli import (
    callbacks,
    diff,
    erasure,
    evidence,
    failures,
    maintenance,
    reading,
    replay,
    report,
    searching,
    serving,
    stats,
    stuck,
    tokens,
    transfer,
)
from server.cli.options import clean

EXAMPLES = """
\b
Examples:
  jobledger serve                                   the server on ./ledger.db
  jobledger import jobs.swf.gz --format swf         a foreign history
  jobledger show job-…  |  log job-…  |  replay job-…
  jobledger report run-…                            why did it end so?
  jobledger failures                                what fails, how often, and since when
  jobledger stats --at 2026-11-22T03:00:00Z         how many there were of each status
  jobledger search '"connection refused"' --what error
  jobledger verify                                  is the record whole and true?
"""


class Cli(click.Group):
    """A group whose commands end quietly when their reader stops listening."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        try:
            result: object = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)


@click.group(
    cls=Cli, epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(package_name="jobledger", prog_name="jobledger")
def cli() -> None:
    """Job Ledger: the history of jobs, runs and batches that can be believed."""


ROOMS = (
    *(serving, transfer, reading, replay, report, diff, failures, stuck, searching, stats),
    *(maintenance, evidence, erasure, tokens, callbacks),
)
for command in (command for room in ROOMS for command in room.COMMANDS):
    cli.add_command(command)


def main() -> None:
    """Run the command line. Exit 0: good; 1: the check found something wrong; 2: wrong usage or unreadable input."""
    try:
        sys.exit(cli.main(standalone_mode=False))
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        _say(f"{error.format_message().rstrip('.')}. See `{context.command_path if context else 'jobledger'} --help`.")
        sys.exit(2)
    except (LedgerError, OSError) as error:
        _say(str(error))
        sys.exit(2)
    except sqlite.Error as error:
        _say(f"the views cannot be read or written: {error}; the log is as it was: look after the disk, then try again")
        sys.exit(2)


def _say(message: str) -> None:
    click.echo(f"jobledger: {clean(message.strip())}", err=True)
