"""Pages of hostile and of ordinary runs."""

import asyncio

import pytest

from tests.cli.reporting import write


@pytest.fixture(scope="session")
def reports(tmp_path_factory):
    """A ledger with runs that are worth a report."""
    path = tmp_path_factory.mktemp("reports") / "ledger.db"
    asyncio.run(write(path))
    return path
