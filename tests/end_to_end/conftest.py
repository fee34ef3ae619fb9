"""One import of a real log, made once for all the tests that only need one."""

import pytest

from tests.cli.commandline import good
from tests.end_to_end.real_data import KTH


@pytest.fixture(scope="session")
def kth(tmp_path_factory):
    """A ledger with a token and, after it, the whole KTH-SP2 log; and that token, which may do everything.

    Tests only read it, or write to a backup of it.
    """
    db = tmp_path_factory.mktemp("kth") / "ledger.db"
    token = good("token", "create", "--db", db, "--scopes", "read,write,admin").out.strip()
    good("import", "--db", db, "--format", "swf", KTH)
    return db, token
