"""``token create``, ``list`` and ``revoke``."""

import re

import pytest

from ledger import tokens
from tests.cli.commandline import good, jobledger
from tests.cli.stories import ALICE, EVENTS

TOKEN = re.compile(r"jl_[A-Za-z0-9_-]{43}_[0-9a-z]{7}")


def make(db, *options):
    return good("token", "create", "--json", "--db", db, *options).json


def known(db):
    return good("token", "list", "--json", "--db", db).json


def test_a_token_is_printed_alone(db):
    done = good("token", "create", "--db", db)
    assert TOKEN.fullmatch(done.out.removesuffix("\n"))
    assert tokens.is_well_formed(done.out.strip())
    assert done.err == ""


def test_a_token_is_printed_once_and_only_its_digest_is_kept(db):
    token = good("token", "create", "--db", db).out.strip()
    for command in (["export"], ["token", "list"], ["token", "list", "--json"]):
        assert token not in good(*command, "--db", db).out
    assert token.encode() not in b"".join(path.read_bytes() for path in db.parent.glob("ledger*"))
    assert good("export", "--after", EVENTS, "--db", db).jsonl[0]["data"]["token_sha256"] == tokens.digest(token)


def test_json_tells_all_about_a_new_token(db):
    told = make(db, "--user", ALICE, "--scopes", "admin, read")
    assert told.keys() == {"id", "token", "user", "scopes"}
    assert (told["user"], told["scopes"]) == (ALICE, ["read", "admin"])
    assert TOKEN.fullmatch(told["token"])
    (listed,) = known(db)
    assert (listed["id"], listed["user"], listed["scopes"]) == (told["id"], ALICE, ["read", "admin"])


def test_a_token_may_read_and_write_for_a_new_user_unless_told_otherwise(db):
    one, two = make(db), make(db)
    assert one["scopes"] == ["read", "write"]
    assert one["user"] != two["user"]
    assert one["token"] != two["token"]


def test_list_shows_those_in_force_with_project_and_end(db):
    ids = [make(db, "--project", "p-1", "--expires", "1")["id"], make(db)["id"]]
    shown = good("token", "list", "--db", db).out.splitlines()
    assert [line.split()[0] for line in shown if line.startswith("token-")] == ids
    assert "in project p-1" in shown[1]
    assert ["expires" in line for line in shown] == [False, True, False, False]
    good("token", "revoke", "--db", db, ids[0])
    assert [each["id"] for each in known(db)] == ids[1:]


def test_a_token_can_be_revoked_once(db):
    id = make(db)["id"]
    assert id in good("token", "revoke", "--db", db, id).out
    again = jobledger("token", "revoke", "--db", db, id)
    assert (again.code, again.raw) == (2, b"")
    assert id in again.err


@pytest.mark.parametrize(
    "options",
    [
        ["--scopes", "root"],
        ["--scopes", ""],
        ["--user", "alice"],
        ["--user", ALICE.upper()],
        ["--project", ""],
        ["--project", "a\nb"],
        ["--expires", "0"],
        ["--expires", "-1"],
        ["--expires", "nan"],
        ["--expires", "1e300"],
    ],
)
def test_what_no_token_can_have_is_refused_and_nothing_is_recorded(db, options):
    done = jobledger("token", "create", "--db", db, *options)
    assert (done.code, done.raw) == (2, b"")
    assert done.err
    assert good("verify", "--json", "--db", db).json["size"] == EVENTS
