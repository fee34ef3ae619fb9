"""Users who ask for anything, in any order: the server answers as the model says."""

from hypothesis.stateful import run_state_machine_as_test

from tests.fuzz.machine import Surface, limits

EXAMPLES, STEPS = 14, 25
"""With these the test takes about 6 s of one core; ``scripts/fuzz`` tells more stories."""


def test_whatever_users_ask_for_the_server_answers_as_the_contract_says():
    run_state_machine_as_test(Surface, settings=limits(EXAMPLES, STEPS, derandomize=True))
