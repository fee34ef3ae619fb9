"""``jobledger token create | list | revoke``."""

from __future__ import annotations

from pathlib import Path

import click

from ledger import ids
from ledger.ids import SYSTEM_USER
from ledger.ledger import Ledger
from ledger.tokens import ACCESS_TYPES, Access
from server.cli.options import clean, db_option, json_option, reading, run, say_json
from server.grants import DAYS_MAX, grant
from server.grants import revoke as revoke_token


@click.group()
def token() -> None:
    """Make, list and revoke access tokens."""


@token.command()
@db_option
@json_option
@click.option("--user", default=None, help="Whose token: user-<uuid4>; a new user when not given.")
@click.option("--scopes", default="read,write", show_default=True, help="Comma list of read, write, admin.")
@click.option("--project", default=None, help="Limit the token to one project.")
@click.option("--expires", "days", type=click.FloatRange(0, DAYS_MAX, min_open=True), help="Days until it expires.")
def create(db: Path, as_json: bool, user: str | None, scopes: str, project: str | None, days: float | None) -> None:
    """Make a token and print it, alone and this once; only its SHA-256 is kept.

    \b
    Example:
      jobledger token create --scopes read --expires 30
    """
    owner = ids.make("user") if user is None else ids.parse(user, "user", where="--user")
    from server.auth import check_scopes  # with the HTTP library, which takes a fifth of a second to load

    wanted = check_scopes([scope.strip() for scope in scopes.split(",")])
    bound = None if project is None else ids.label(project, "--project")

    async def work() -> tuple[str, str]:
        async with Ledger.open(db) as ledger:
            return await grant(
                ledger, user_id=owner, scopes=wanted, project_id=bound, expires_days=days, actor=SYSTEM_USER
            )

    made, token_id = run(work())
    if as_json:
        say_json({"id": token_id, "token": made, "user": owner, "scopes": wanted})
    else:
        click.echo(made)


async def _load(db: Path) -> Access:
    access = Access()
    async with reading(db) as store:
        access.apply(await store.scan(0, 1_000_000, ACCESS_TYPES))
    return access


@token.command(name="list")
@db_option
@json_option
def list_tokens(db: Path, as_json: bool) -> None:
    """List the tokens that are not revoked.

    \b
    Example:
      jobledger token list --json
    """
    from server.routes.tokens import show  # likewise

    known = [show(each) for each in run(_load(db)).all()]
    if as_json:
        say_json(known)
        return
    for each in known:
        project = f" in project {each.project}" if each.project else ""
        until = f", expires {each.expires_at}" if each.expires_at else ""
        click.echo(clean(f"{each.id}  {','.join(each.scopes)}"))
        click.echo(clean(f"    for {each.user}{project}, granted {each.granted_at}{until}"))


@token.command()
@db_option
@click.argument("token_id")
def revoke(db: Path, token_id: str) -> None:
    """Take a token out of force, at once, also for open connections of a running server.

    \b
    Example:
      jobledger token revoke token-6f9c2a7e-3a52-4c1e-9d52-0f4c9a1b7d11
    """
    ids.parse(token_id, "token", where="token id")

    async def work() -> None:
        async with Ledger.open(db) as ledger:
            await revoke_token(ledger, token_id, actor=SYSTEM_USER)

    run(work())
    click.echo(f"{token_id} is revoked")


COMMANDS = (token,)
