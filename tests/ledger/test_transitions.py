"""The table of legal moves against the contract's own: nothing more, nothing less."""

import pytest

from ledger import transitions
from tests.ledger.histories import KINDS, MOVES, STATUSES, TERMINAL, statuses_of, way_to

EVERY_PAIR = [(kind, found, asked) for kind in KINDS for found in (None, *statuses_of(kind)) for asked in STATUSES]


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_the_statuses_of_the_contract_in_the_order_of_a_life(kind):
    assert list(transitions.statuses(kind)) == statuses_of(kind)
    assert transitions.KINDS == KINDS
    assert set(TERMINAL) == transitions.TERMINAL


@pytest.mark.parametrize(("kind", "found", "asked"), EVERY_PAIR)
def test_a_move_is_legal_exactly_where_the_contract_names_it(kind, found, asked):
    legal = asked == "created" if found is None else (found, asked) in MOVES[kind]
    assert (asked in transitions.allowed(kind, found)) is legal


@pytest.mark.parametrize(("kind", "found", "asked"), EVERY_PAIR)
def test_a_chain_walks_every_step_by_way_of_running_or_does_not_exist(kind, found, asked):
    steps = list(transitions.chain(kind, found, asked))
    whole = way_to(kind, asked) if asked in statuses_of(kind) else []
    if found is None:
        assert steps == whole
    elif found in TERMINAL or found not in whole[:-1]:
        assert steps == []
    else:
        assert steps == whole[whole.index(found) + 1 :]


@pytest.mark.parametrize(("kind", "found", "asked"), EVERY_PAIR)
def test_every_step_of_a_chain_is_legal(kind, found, asked):
    for step in transitions.chain(kind, found, asked):
        assert step in transitions.allowed(kind, found)
        found = step


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({None: ("created",), "created": ("done",)}, id="a status without a row"),
        pytest.param({None: ("created",), "created": ()}, id="a dead end that is not terminal"),
        pytest.param({None: ("created",), "created": ("failed",), "failed": ("created",)}, id="an end that goes on"),
        pytest.param({None: ("created",), "created": ("created",), "failed": ()}, id="a status nobody reaches"),
        pytest.param({"created": ("failed", "created"), "failed": ()}, id="no beginning"),
    ],
)
def test_a_table_with_a_hole_does_not_import(monkeypatch, broken):
    monkeypatch.setitem(transitions.LEGAL, "job", broken)
    with pytest.raises(AssertionError, match="transition table of job"):
        transitions._check_complete()
