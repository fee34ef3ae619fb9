"""The table of all parsers that read what strangers wrote. A new parser is one row in the module of its kind."""

from tests.fuzz import evidence, histories, values

TARGETS = [*values.TARGETS, *evidence.TARGETS, *histories.TARGETS]
ELSEWHERE = {
    "ledger.database.check_place": "a path of the operator's",
    "ledger.cloudevents.to_recorded": "rows 'exported event' and 'import jobledger'",
    "ledger.verify.verify": "reads a database; tests/ledger/test_verify.py and test_tampering.py",
    "ledger.soundness.verify_file": "reads a database; tests/ledger/test_tampering.py",
    "projections.past.fold_as_of": "folds what was read; the state machine",
    "projections.usage.folded": "folds what was read; rows 'import …'",
    "server.cli.maintenance.verify": "a command, whose arguments are rows of their own",
    "server.cli.evidence.verify_bundle": "a command; row 'bundle'",
    "server.feed.read_part": "row 'query GET /v1/events'",
}
"""Functions that are named like parsers and are fed elsewhere, and where."""
