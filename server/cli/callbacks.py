"""``jobledger callbacks list | show | redeliver | secret``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ledger.errors import Unreadable
from server.cli.options import at_option, db_option, json_option, say_json

LIMIT = 100
"""How many callbacks a list shows unless told."""


@click.group()
def callbacks() -> None:
    """See what became of callbacks, send them again, show the secrets that they are signed with."""


@callbacks.command(name="list", short_help="What is owed, delivered, given up.")
@db_option
@json_option
@click.option("--status", type=click.Choice(["owed", "delivered", "abandoned", "waiting"]), help="Only those.")
@click.option("--limit", type=click.IntRange(1), default=LIMIT, show_default=True, help="How many, at most.")
def list_callbacks(db: Path, as_json: bool, status: str | None, limit: int) -> None:
    """List callbacks: first what is owed, by when it is due; then what is settled, newest first.

    `waiting`: the job or run has not ended. What an import brought is `abandoned` unless it came with --callbacks.

    \b
    Examples:
      jobledger callbacks list --status owed
      jobledger callbacks list --status abandoned --limit 1000 --json
    """
    from server.cli import outbox

    outbox.say_list(db, status, limit, as_json=as_json)


@callbacks.command(short_help="Each attempt at one, and what came of it.")
@db_option
@json_option
@at_option
@click.argument("id")
def show(db: Path, as_json: bool, when: str | None, id: str) -> None:
    """Show what became of the callback of a job, batch or run, with its newest attempts.

    \b
    Examples:
      jobledger callbacks show job-6f9c…
      jobledger callbacks show run-6f9c… --at 2026-11-22T03:00:00Z --json
    """
    from server.cli import outbox

    outbox.say_one(db, id, when, as_json=as_json)


@callbacks.command(short_help="Owe callbacks anew, at once.")
@db_option
@json_option
@click.option("--reason", help="Why; the log keeps it.")
@click.option("--abandoned", is_flag=True, help="All that were given up here, such as after an outage of receivers.")
@click.option("--since", metavar="WHEN", help="With --abandoned: those given up at this time or later.")
@click.argument("ids", metavar="[ID]…", nargs=-1)
def redeliver(
    db: Path, as_json: bool, reason: str | None, abandoned: bool, since: str | None, ids: tuple[str, ...]
) -> None:
    """Owe callbacks anew, whatever became of them, with the whole schedule before them: all of the IDs or none.

    A running server sends them at once; without one they are sent at the next `serve`. --abandoned leaves out what an
    import brought; that can be named by its ID.

    \b
    Examples:
      jobledger callbacks redeliver job-6f9c… --reason "receiver was down"
      jobledger callbacks redeliver --abandoned --since 2026-11-22T03:00:00Z
    """
    from server.cli import outbox

    if abandoned == bool(ids):
        raise click.UsageError("name IDs, or give --abandoned")
    if since is not None and not abandoned:
        raise click.UsageError("--since goes with --abandoned")
    if abandoned:
        outbox.owe_abandoned(db, since, reason, as_json=as_json)
    else:
        outbox.owe(db, ids, reason, as_json=as_json)


@callbacks.command(short_help="What receivers check signatures with.")
@db_option
@json_option
@click.option("--new", is_flag=True, help="Print a fresh secret instead, and store it nowhere.")
@click.option("--ed25519", is_flag=True, help="With --new: an Ed25519 key, whsk_… to sign and whpk_… to check.")
def secret(db: Path, as_json: bool, new: bool, ed25519: bool) -> None:
    """Print what receivers check signatures with, the newest first: whsec_… for HMAC, the public whpk_… for Ed25519.

    The secrets are those in JOBLEDGER_CALLBACK_SECRET, else in the file beside the ledger (ledger.secret), which
    `serve` makes on its first start.

    To replace a secret: put a new one before the old, with a comma between, in JOBLEDGER_CALLBACK_SECRET or the file,
    and restart the servers; callbacks now carry a signature of each. Give receivers the new one. Then remove the old
    one and restart again.

    \b
    Examples:
      jobledger callbacks secret
      jobledger callbacks secret --new --ed25519
    """
    if new:
        _say_new(ed25519, as_json)
    elif ed25519:
        raise click.UsageError("--ed25519 says what to make, and needs --new")
    else:
        _say_used(db, as_json)


def _say_new(ed25519: bool, as_json: bool) -> None:
    from server.callbacks.signing import Signer, new_private_key, new_secret

    made = new_private_key() if ed25519 else new_secret()
    public = Signer.parse(made, "--new").public()
    if as_json:
        say_json({"secret": made} | ({"public": public[0]} if public else {}))
    else:
        click.echo("\n".join([made, *public]))


def _say_used(db: Path, as_json: bool) -> None:
    from server.callbacks.secret import origin, read

    signer = read(db, os.environ)
    if signer is None:
        raise Unreadable(path=origin(db, os.environ), reason="there is none yet; `serve` makes it on its first start")
    if as_json:
        shown = [{"version": version, "key": key} for version, key in signer.verifiers()]
        say_json({"from": origin(db, os.environ), "keys": shown})
    else:
        click.echo("\n".join(key for _, key in signer.verifiers()))


COMMANDS = (callbacks,)
