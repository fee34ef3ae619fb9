"""A program that takes the secret of callbacks into use, as ``serve`` does, and prints what receivers check.

python -m tests.faults.secretmaking DB
"""

from __future__ import annotations

import sys
from pathlib import Path

from ledger.errors import LedgerError
from server.callbacks import secret


def main() -> int:
    """Take it into use; return 2 where that cannot be."""
    try:
        signer = secret.load(Path(sys.argv[1]), {})
    except LedgerError as error:
        print(f"secretmaking: {error}", file=sys.stderr)
        return 2
    print(signer.verifiers()[0][1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
