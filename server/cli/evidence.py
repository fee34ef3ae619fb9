"""``jobledger checkpoint``, ``bundle`` and ``proof``: what a third party needs who trusts nobody here."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click
import msgspec

from ledger import archive, keys, private
from ledger import bundle as bundles
from ledger.checkpoint import NOTE_SIZE_MAX, Kept, VerifierKey, parse_keys
from ledger.errors import Unreadable
from ledger.ledger import Ledger
from ledger.proofs import Consistency, Inclusion, Tree
from server.cli.options import check_target, clean, db_option, existing, json_option, out, reading, run, say_json, table

T = TypeVar("T")
STDIN = "-"

key_option = click.option(
    "--key",
    metavar="KEY|FILE",
    help="The verifier key to trust, or a file of such keys. Unless said: for a ledger those in its .pub file; for a "
    "bundle the one that it brings, which shows that it is whole, and not whose it is.",
)


def trusted(key: str) -> list[VerifierKey]:
    """Return the keys that an option names: by their text, or by a file that holds them."""
    try:
        is_file = Path(key).is_file()
    except (OSError, ValueError):  # too long for the name of a file, or none
        is_file = False
    return keys.read_keys(Path(key)) if is_file or key.count("+") < 2 else parse_keys(key, "--key")


def read_bytes(name: str, size_max: int) -> bytes:
    """Return what a file holds, stdin where it is named ``-``. Raises ``Unreadable``, also for a larger one."""
    try:
        if name == STDIN:
            raw = sys.stdin.buffer.read(size_max + 1)
        else:
            with open(name, "rb") as file:
                raw = file.read(size_max + 1)
    except OSError as error:
        raise Unreadable(path=name, reason=error.strerror or str(error)) from error
    if len(raw) > size_max:
        raise Unreadable(path=name, reason=f"it is longer than {size_max:,} bytes")
    return raw


def read_note(name: str) -> str:
    """Return the checkpoint that a file holds; mail may have changed its line ends. Raises as ``read_bytes``."""
    try:
        text = read_bytes(name, NOTE_SIZE_MAX).decode()
    except UnicodeDecodeError as error:
        raise Unreadable(path=name, reason="it is no text, so no checkpoint") from error
    return "\n".join(line.rstrip() for line in text.strip().splitlines()).replace("\n\n\n", "\n\n") + "\n"


def write(target: str, content: bytes) -> None:
    """Write a result to a file, stdout where it is named ``-``. Raises ``Unreadable``."""
    if target == STDIN:
        click.echo(content, nl=False)
        return
    where = Path(target)
    try:
        if where.exists() and not where.is_file():
            where.write_bytes(content)  # a pipe, or a device: it is written to, not replaced
        else:
            private.replace(where.resolve(), content)
    except OSError as error:
        raise Unreadable(path=target, reason=f"it cannot be written ({error.strerror or error})") from error


@click.command(short_help="Sign the log as it is.")
@db_option
@json_option
@click.option("--out", "target", metavar="FILE", help="Write it there, too.")
@click.option("--new-key", is_flag=True, help="Sign with a fresh key from now on; what the old one signed stays valid.")
def checkpoint(db: Path, as_json: bool, target: str | None, new_key: bool) -> None:
    """Sign the log as it is, and print the note: its name, size and tree root, in the format of C2SP's checkpoints.

    It is kept in the ledger, one of each size, as are those that a running server makes every five minutes while the
    log grows, and when it stops. Nothing is signed that does not go on from what was signed before. Keep copies where
    whoever runs the ledger cannot reach them: `verify --against` shows by them what was cut or rewritten. The key is
    ledger.key beside the ledger, made on first use; hand its public half, ledger.pub, to everyone who is to check.

    \b
    Examples:
      jobledger checkpoint --out /mnt/elsewhere/$(date +%F).checkpoint
      jobledger checkpoint | mail -s checkpoint auditor@example.com
    """
    if target is not None:
        check_target(db, Path(target))
    kept = run(_checkpoint(existing(db), new_key))
    if target is not None:
        write(target, kept.note.encode())
    if as_json:
        say_json({"note": kept.note, "size": kept.size, "key": str(keys.published(db)[-1])})
    else:
        click.echo(kept.note, nl=False)


async def _checkpoint(db: Path, new_key: bool) -> Kept:
    async with Ledger.open(db) as ledger:
        return await ledger.checkpoint(new_key=new_key)


@click.command(short_help="A history with its proofs, in one file.")
@db_option
@click.option("--out", "target", metavar="FILE", default=STDIN, show_default=True, help="Where to; - is stdout.")
@click.argument("id")
def bundle(db: Path, target: str, id: str) -> None:
    """Write all that a third party needs to check the history of a job, run, batch or token into one file.

    It holds the events with their data, a proof for each that it is in the log, the log's checkpoint, its public key,
    and a summary to read. `jobledger verify FILE` checks it, and so do other tools (see the README); a ledger is not
    needed for that. What was erased is in it as a digest.

    \b
    Examples:
      jobledger bundle run-6f9c… --out run.bundle
      jobledger verify run.bundle --key ledger.pub
    """
    check_target(db, Path(target))
    made = run(_bundle(existing(db), id))
    write(target, made)
    if target != STDIN:
        click.echo(f"{target}: {len(made):,} bytes", err=True)


async def _bundle(db: Path, id: str) -> bytes:
    async with Ledger.open(db) as ledger:
        return await archive.bundle(ledger, id)


def verify_bundle(file: str, key: str | None, as_json: bool) -> bool:
    """Check a bundle and print the verdict; tell whether it is good."""
    keys_trusted = trusted(key) if key else []
    raw = read_bytes(file, bundles.SIZE_MAX)
    try:
        verdict = bundles.verify(raw, keys_trusted)
    except Unreadable as error:
        raise Unreadable(path=file, reason=f"{error.reason}{_hint(raw)}") from error
    if as_json:
        say_json(verdict)
        return verdict.ok
    for problem in verdict.problems:
        place = f"position {problem.position}" if problem.position else "the bundle"
        click.echo(f"{place}: {clean(problem.problem)}")
    if verdict.ok:
        erased = f", {verdict.erased:,} erased" if verdict.erased else ""
        click.echo(f"ok: {verdict.events:,} events{erased}, each in the signed log of {verdict.size:,} events")
        click.echo(f"root {verdict.root}")
        by = (
            "which is trusted here"
            if verdict.trusted
            else "which came with the bundle: compare it, or name it with --key"
        )
        click.echo(f"signed by {clean(verdict.key)}, {by}")
        for line in verdict.summary:
            click.echo(f"  {clean(line)}")
    return verdict.ok


def _hint(raw: bytes) -> str:
    """Return what to do with a file that is no bundle, but something else of ours."""
    if raw.startswith(b"SQLite format 3"):
        return "; a ledger is verified with --db"
    return "; a checkpoint is compared with --against" if "\n\n— ".encode() in raw else ""


@click.group(short_help="Prove that an event is in the log, or that nothing was rewritten.")
def proof() -> None:
    """Make RFC 9162 proofs from the stored tree; any implementation of that standard can check them."""


@proof.command(short_help="That an event is in the log.")
@db_option
@json_option
@click.option("--size", type=int, help="Of the tree of so many events; of all unless said.")
@click.argument("position", type=int)
def inclusion(db: Path, as_json: bool, size: int | None, position: int) -> None:
    """Prove that the event at POSITION is in the tree of the first SIZE events. Hashes are hex, the lowest first.

    \b
    Example:
      jobledger proof inclusion 1042 --json
    """
    _show(_prove(db, lambda tree: tree.inclusion(position, size)), as_json)


@proof.command(short_help="That nothing was rewritten.")
@db_option
@json_option
@click.argument("first", metavar="FROM", type=int)
@click.argument("second", metavar="[TO]", type=int, required=False)
def consistency(db: Path, as_json: bool, first: int, second: int | None) -> None:
    """Prove that the tree of the first FROM events is the beginning of that of the first TO, all unless said.

    \b
    Example:
      jobledger proof consistency 1000 --json
    """
    _show(_prove(db, lambda tree: tree.consistency(first, second)), as_json)


def _prove(db: Path, work: Callable[[Tree], T]) -> T:
    async def prove() -> T:
        async with reading(db) as store:
            return await store.prove(work)

    return run(prove())


def _show(found: Inclusion | Consistency, as_json: bool) -> None:
    if as_json:
        say_json(found)
        return
    rows = table("", "", header=False)
    for name, value in msgspec.to_builtins(found).items():
        rows.add_row(name.replace("_", " "), "\n".join(value) if isinstance(value, list) else str(value))
    out().print(rows)


COMMANDS = (checkpoint, bundle, proof)
