"""Heavy states: what a process keeps of thousands of resources has a bound in bytes, and the rules hold without it."""

import pytest

from ledger.decider import Change
from ledger.errors import InvalidTransition
from ledger.events import Changed
from ledger.weight import STATE_SIZE_MAX, is_heavy
from tests.ledger.engines import ME, create
from tests.ledger.histories import job

LIGHT = {
    "none": None,
    "a few words": {"task": "nightly", "model": "openai/gpt-4.1-mini", "tags": ["a", "b"], "deep": {"n": 1, "x": None}},
    "a text just short enough": {"text": "x" * (STATE_SIZE_MAX - 200)},
}
HEAVY = {
    "a long text": {"text": "x" * STATE_SIZE_MAX},
    "a long name": {"x" * STATE_SIZE_MAX: 1},
    "many numbers": {"a": [0] * (STATE_SIZE_MAX // 8)},
    "many empty things": {"a": [{}, []] * (STATE_SIZE_MAX // 64)},
    "many names": {str(n): None for n in range(STATE_SIZE_MAX // 64)},
    "a text deep inside": {"a": [{"b": [{"c": "x" * STATE_SIZE_MAX}]}]},
}


async def state_with(ledger, metadata):
    receipt = await ledger.execute(create(job(1), metadata=metadata, status="running"), ME)
    return receipt.state


@pytest.mark.parametrize("what", LIGHT)
async def test_a_state_with_the_usual_metadata_is_light_and_kept(ledger, what):
    assert not is_heavy(await state_with(ledger, LIGHT[what]))
    assert list(ledger.store._states.known) == [job(1)]


@pytest.mark.parametrize("what", HEAVY)
async def test_a_heavy_state_is_not_kept_and_what_comes_next_is_decided_by_it_all_the_same(ledger, what):
    # given
    assert is_heavy(await state_with(ledger, HEAVY[what]))
    assert not ledger.store._states.known
    # when
    await ledger.execute(Change(id=job(1), status="completed"), ME)
    # then
    with pytest.raises(InvalidTransition):
        await ledger.execute(Change(id=job(1), status="failed"), ME)
    state = await ledger.state(job(1))
    assert (state.status, state.metadata) == ("completed", HEAVY[what])
    assert not ledger.store._states.known


async def test_patches_that_add_up_make_a_state_heavy(ledger):
    await state_with(ledger, {})
    for number in range(10):
        await ledger.execute(
            Change(id=job(1), facts=Changed(metadata={f"text {number}": "x" * (STATE_SIZE_MAX // 8)})), ME
        )
    assert not ledger.store._states.known
