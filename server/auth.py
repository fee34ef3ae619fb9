"""Who asks, and what they may do: bearer tokens with scopes, admins who act for others, projects (contract 3, Auth)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from ledger import ids
from ledger.errors import invalid
from ledger.events import Scope
from ledger.tokens import Access, Grant, is_well_formed
from server.problems import Forbidden, Unauthorized


class Caller(msgspec.Struct, frozen=True):
    """Who a request is from. ``user_id`` is whom it acts for; ``by`` is the admin who does so, where that is another.

    ``sees_all``: an admin who acts for nobody sees every user's rows. ``project_id``: the one that it is limited to.
    """

    user_id: str
    token_id: str
    scopes: frozenset[str]
    project_id: str | None
    sees_all: bool
    by: str | None = None

    def may_see(self, user_id: str, project_id: str | None) -> bool:
        """Tell whether a resource of this owner and project exists for the caller."""
        return (self.sees_all or user_id == self.user_id) and self.project_id in (None, project_id)

    @property
    def owner_filter(self) -> str | None:
        """The user that lists are limited to, None for all."""
        return None if self.sees_all else self.user_id


NOBODY = Caller(ids.SYSTEM_USER, "", frozenset(), None, False)
"""Who asks as long as no token told."""


class Callers:
    """Turns the headers of requests into callers; remembers those of plain headers until any token changes."""

    KEPT_MAX = 10_000

    def __init__(self, access: Access, clock: Callable[[], int]) -> None:
        self._access = access
        self._clock = clock
        self._kept: dict[str, tuple[Caller, int | None]] = {}
        self._position = 0

    def authenticate(self, headers: Mapping[str, str], scope: str) -> Caller:
        """Return who asks. Raises ``Unauthorized`` without a token in force, ``Forbidden`` without the scope."""
        header = headers.get("Authorization", "")
        if self._position != self._access.position:
            self._kept.clear()
            self._position = self._access.position
        is_plain = not ("user_id" in headers or "X-Project-Id" in headers or "X-Project" in headers)
        known = self._kept.get(header) if is_plain else None
        if known is None or (known[1] is not None and known[1] <= self._clock()):
            grant = _grant(header, self._access, self._clock())
            known = _caller(grant, headers), grant.expires_us
            if is_plain and len(self._kept) < self.KEPT_MAX:
                self._kept[header] = known
        caller = known[0]
        if scope not in caller.scopes and "admin" not in caller.scopes:
            raise Forbidden(reason=f"This needs a token with the scope '{scope}'.")
        return caller

    def holder(self, headers: Mapping[str, str]) -> Caller:
        """Return whose token a refused request came with, also one no longer in force: to be told, never to be obeyed.

        ``NOBODY`` for one that was never in force: nothing of it may be told.
        """
        token = headers.get("Authorization", "").partition(" ")[2]
        grant = self._access.holder(token) if token.isascii() else None
        if grant is None:
            return NOBODY
        return Caller(grant.user_id, grant.id, frozenset(), grant.project_id, False)


def _grant(header: str, access: Access, now_us: int) -> Grant:
    if not header:
        raise Unauthorized(reason="Send a token: Authorization: Bearer jl_… (make one with `jobledger token create`).")
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthorized(reason="The Authorization header is not of the form 'Bearer TOKEN'.")
    grant = access.find(token, now_us) if token.isascii() else None
    if grant is None:
        known = is_well_formed(token)
        raise Unauthorized(reason="The token is not in force." if known else "The token is mistyped or cut off.")
    return grant


def _caller(grant: Grant, headers: Mapping[str, str]) -> Caller:
    is_admin = "admin" in grant.scopes
    user_id, by = grant.user_id, None
    asked = headers.get("user_id")
    if asked is not None and asked != user_id:
        if not is_admin:
            raise Forbidden(reason="The user_id header names another user; only an admin may act for one.")
        user_id, by = ids.parse(asked, "user", where="header user_id"), grant.user_id
    project = headers.get("X-Project-Id", headers.get("X-Project"))
    if project is not None:
        ids.label(project, "header X-Project-Id")
        if grant.project_id not in (None, project):
            raise Forbidden(reason="The token belongs to another project.")
    return Caller(user_id, grant.id, grant.scopes, project or grant.project_id, is_admin and asked is None, by)


def check_admin(caller: Caller, what: str) -> None:
    """Raise ``Forbidden`` unless the caller is an admin."""
    if "admin" not in caller.scopes:
        raise Forbidden(reason=f"{what} needs a token with the scope 'admin'.")


def check_scopes(scopes: list[str]) -> list[Scope]:
    """Return scopes that a token may have, sorted; raise ``InvalidInput`` for others."""
    known: tuple[Scope, ...] = ("read", "write", "admin")
    if not scopes or any(scope not in known for scope in scopes):
        raise invalid("scopes", "must name at least one of read, write and admin", list(known))
    return [scope for scope in known if scope in scopes]
