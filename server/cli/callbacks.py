"""``jobledger callbacks secret``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ledger.errors import Unreadable
from server.cli.options import db_option, json_option, say_json


@click.group()
def callbacks() -> None:
    """Show the secrets that callbacks are signed with."""


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
