"""The released clients of Letta V1, each in an environment of its own, against a running server.

Every job, run, step and batch method of letta-client 1.12.1, 1.6.5 and 0.1.324 is called with every parameter it has,
by the synchronous and by the asynchronous client; every answer is checked against what the client declares.
"""

import pytest

from tests.clients import calls
from tests.clients.surface import CLIENTS, METHODS, UNKNOWN_TYPES


def rows(*tables):
    """One case for each client and row of the tables."""
    return [
        pytest.param(client, call, id=f"{client.name}: {call.name}")
        for client in CLIENTS
        for call in calls.calls(client)
        if any(call.name == row.name for table in tables for row in table(client))
    ]


@pytest.mark.parametrize(("client", "call"), rows(calls.paging))
def test_paging_gives_every_row_once_and_in_order(sessions, client, call):
    call.check(sessions[client].seen[call.name])


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_row_is_the_same_on_whichever_page_it_stands(sessions, client):
    paged = {call.name for call in calls.paging(client)}
    whole = {}
    for call in (call for call in calls.calls(client) if call.name in paged):
        seen = sorted(map(repr, sessions[client].seen[call.name].rows))
        if "before" not in call.arguments:
            assert seen == whole.setdefault(call.method, seen), call.name
        assert set(seen) <= set(whole[call.method]), call.name
    assert len(whole) >= 5


@pytest.mark.parametrize(("client", "call"), rows(calls.filtered))
def test_a_list_has_the_rows_that_were_asked_for(sessions, client, call):
    call.check(sessions[client].seen[call.name])


@pytest.mark.parametrize(("client", "call"), rows(calls.objects))
def test_an_object_is_what_producers_told(sessions, client, call):
    call.check(sessions[client].seen[call.name])


@pytest.mark.parametrize(("client", "call"), rows(calls.streams))
def test_a_stream_has_every_message_then_how_the_run_ended(sessions, client, call):
    call.check(sessions[client].seen[call.name])


@pytest.mark.parametrize(("client", "call"), rows(calls.changes))
def test_a_change_is_made_and_shown(sessions, client, call):
    call.check(sessions[client].seen[call.name])


@pytest.mark.parametrize(("client", "call"), rows(calls.refusals))
def test_a_refusal_costs_one_request(sessions, client, call):
    call.check(sessions[client].seen[call.name])


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_every_method_was_called_with_every_parameter(sessions, client):
    # given
    session = sessions[client]
    assert session.version == client.version
    assert {method: frozenset(names) for method, names in session.surface.items()} == METHODS[client.version]
    # then
    asked = {
        (call.method, name) for call in calls.calls(client) if call.name in session.seen for name in call.arguments
    }
    wanted = {(method, name) for method, names in METHODS[client.version].items() for name in names}
    assert wanted - asked == set()


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_nothing_was_asked_twice_for_one_answer(sessions, client):
    retried = [
        (seen.name, request)
        for seen in sessions[client].seen.values()
        for request in seen.requests
        if request[2] in {408, 409, 429} or request[2] >= 500
        if len(seen.requests) > 1
    ]
    assert retried == []


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_every_row_is_what_the_client_declares(sessions, client):
    faults = [
        (seen.name, row, fault)
        for seen in sessions[client].seen.values()
        for row, fault in seen.faults
        if row.get("message_type") not in UNKNOWN_TYPES[client.version]
    ]
    assert faults == []
