"""Callbacks through ``export``, ``import``, ``backup``, ``verify --views`` and ``rebuild``: kept, marked, compared."""

import asyncio
import sqlite3

import pytest

from ledger import Ledger
from projections.file import views_path
from tests.cli.commandline import good, jobledger
from tests.projections.random_histories import History

MARKS = "SELECT first, last FROM imports"
CALLBACKS = "SELECT * FROM callbacks ORDER BY position"


async def _write(path):
    async with Ledger.open(path) as ledger:
        await History(3).extend(ledger, 300)


@pytest.fixture
def db(tmp_path):
    path = tmp_path / "ledger.db"
    asyncio.run(_write(path))
    return path


def ask(path, question):
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        return connection.execute(question).fetchall()
    finally:
        connection.close()


@pytest.fixture(params=[[], ["--callbacks"]], ids=["without its callbacks", "with its callbacks"])
def imported(db, tmp_path, request):
    """An export of the ledger in a ledger of its own, and how much of it is marked."""
    export, target = tmp_path / "export.jsonl", tmp_path / "imported.db"
    good("export", "--db", db, "--out", export)
    told = good("import", "--json", "--db", target, *request.param, export).json
    assert (told["rejected"], told["appended"] > 200) == (0, True)
    return target, [] if request.param else [(1, told["appended"])]


def test_an_import_is_marked_unless_its_callbacks_are_asked_for_and_is_the_same_either_way(db, imported):
    path, marks = imported
    assert ask(path, MARKS) == marks
    assert ask(db, MARKS) == []
    assert good("verify", "--json", "--db", path, "--views").json == good("verify", "--json", "--db", db).json
    good("rebuild", "--db", db)
    assert ask(views_path(path), CALLBACKS) == ask(views_path(db), CALLBACKS)
    statuses = {status for (status,) in ask(views_path(db), "SELECT DISTINCT status FROM callbacks")}
    assert statuses == {None, "owed", "delivered", "abandoned"}


def test_a_backup_keeps_the_marks(imported, tmp_path):
    path, marks = imported
    good("backup", "--db", path, tmp_path / "backup.db")
    assert ask(tmp_path / "backup.db", MARKS) == marks
    assert good("verify", "--json", "--db", tmp_path / "backup.db", "--views").json["ok"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE callbacks SET due_us = due_us + 1 WHERE position = (SELECT max(position) FROM callbacks WHERE due_us)",
        "UPDATE callbacks SET status = 'delivered' WHERE status = 'owed'",
        "DELETE FROM callbacks WHERE status = 'owed'",
    ],
)
def test_a_view_of_callbacks_that_is_no_fold_of_the_log_is_found_and_made_anew(db, statement):
    good("rebuild", "--db", db)
    good("verify", "--db", db, "--views")
    views = sqlite3.connect(views_path(db))
    assert views.execute(statement).rowcount > 0
    views.commit()
    views.close()
    assert jobledger("verify", "--db", db, "--views").code == 1
    good("rebuild", "--db", db)
    good("verify", "--db", db, "--views")
