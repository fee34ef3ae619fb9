"""Which tools a message calls: what the tools view is folded from."""

import pytest

from ledger import messages
from projections.tools import called

CALL = {"name": "look", "arguments": '{"a": 1}', "tool_call_id": "call-1"}


@pytest.mark.parametrize(
    ("own", "names"),
    [
        ({"tool_call": CALL}, ["look"]),
        ({"tool_call": CALL, "tool_calls": [CALL, {**CALL, "name": "b", "tool_call_id": "2"}]}, ["look", "b"]),
        ({"tool_call": {}, "tool_calls": {"name": "part"}}, []),
        ({"tool_call": {"name": "part"}}, ["part"]),
    ],
)
@pytest.mark.parametrize("name", ["tool_call_message", "approval_request_message"])
def test_the_tools_that_a_message_calls_are_named_once_in_order(name, own, names):
    said, _ = messages.record({"message_type": name, **own})
    assert called(bytes(said.message)) == names
