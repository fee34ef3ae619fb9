"""A ledger file as the first version of this program wrote it, with the history of a newer one."""

import contextlib
from importlib import resources

from ledger import engine
from ledger.database import APPLICATION_ID

COPIED = ("ledger", "events", "tree", "head", "checkpoints")


def write_format_1(path, newer):
    """Write a file of format 1: today's schema without its table of imports is what format 1 was."""
    with contextlib.closing(engine.connect(path, read_only=False)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(resources.files("ledger").joinpath("schema.sql").read_text("utf-8"))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")
        connection.execute("ATTACH ? AS newer", (str(newer),))
        for table in COPIED:
            connection.execute(f"INSERT INTO {table} SELECT * FROM newer.{table} ORDER BY 1")
