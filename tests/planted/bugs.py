"""Bugs to plant, each with the test that must fail of it: what shows that the tests would notice.

A row is one wrong edit that somebody could make. ``old`` stands exactly once in the file.
"""

from __future__ import annotations

from typing import NamedTuple


class Bug(NamedTuple):
    """One bug: its kind in a few words, the edit, and what must notice it: a test, or arguments of a module."""

    kind: str
    path: str
    old: str
    new: str
    caught_by: str


BUGS = (
    Bug(
        "a missing fsync",
        "ledger/private.py",
        "    os.fsync(file.fileno())\n",
        "",
        "python -m tests.faults --only 'power cut after the first checkpoint'",
    ),
    Bug(
        "a skipped version check",
        "ledger/bulk.py",
        "if current != entry.expected_version:",
        "if False:",
        "tests/contract/test_stores.py",
    ),
    Bug(
        "a skipped If-Match",
        "ledger/decider.py",
        "state.etag not in etags",
        "False",
        "tests/server/test_conditional.py",
    ),
    Bug(
        "a filter off by one",
        "projections/query.py",
        '("start", filters.start_us, ">=")',
        '("start", filters.start_us, ">")',
        "tests/server/test_list_oracle.py",
    ),
    Bug(
        "a lost wake-up",
        "ledger/writer.py",
        "                if not self._waiting and not self._closing:\n                    self._wake.clear()\n",
        "                if not self._closing:\n                    self._wake.clear()\n",
        "tests/ledger/test_writer.py",
    ),
    Bug(
        "a swap that forgets what came meanwhile",
        "projections/rebuild.py",
        "            rest = await self._store.scan(last, BATCH)\n",
        "            rest = []\n",
        "tests/projections/test_rebuild.py",
    ),
    Bug(
        "a failed work that is not taken back",
        "ledger/session.py",
        "            self._take_back(mark)\n",
        "",
        "tests/contract/test_stores.py",
    ),
    Bug(
        "a failed commit that comes to life when the file is opened next",
        "ledger/sqlite.py",
        "            self._settle(connection, InDoubt)\n",
        "            self._in_doubt = None\n",
        "tests/faults/test_faults.py",
    ),
    Bug(
        "a log that is not synced at each commit",
        "ledger/database.py",
        "PRAGMA synchronous = FULL",
        "PRAGMA synchronous = NORMAL",
        "python -m tests.faults --only 'power cut in an append'",
    ),
    Bug(
        "a name that is not made durable",
        "ledger/private.py",
        "        os.fsync(handle)\n",
        "        pass\n",
        "python -m tests.faults --only 'power cut after the first checkpoint'",
    ),
    Bug(
        "an owner who is not asked for",
        "server/routes/resources.py",
        "if row is None or row.deleted or not exchange.caller.may_see(row.user_id, row.project_id):",
        "if row is None or row.deleted:",
        "tests/server/test_auth.py",
    ),
    Bug(
        "a token that stays in force in memory",
        "server/auth.py",
        "if known is None or (known[1] is not None and known[1] <= self._clock()):",
        "if known is None:",
        "tests/server/test_tokens.py",
    ),
    Bug(
        "a revocation that is not noticed",
        "server/auth.py",
        "            self._kept.clear()\n",
        "",
        "tests/server/test_tokens.py",
    ),
    Bug(
        "a leaf that passes for a node",
        "ledger/merkle.py",
        'b"\\x00", b"\\x01"  # the prefixes',
        'b"", b""  # the prefixes',
        "tests/ledger/test_merkle.py",
    ),
    Bug(
        "erased data that stays",
        "ledger/queries.py",
        "SET data = zeroblob(length(data)), salt",
        "SET salt",
        "tests/ledger/test_erasure.py",
    ),
    Bug(
        "an address that is not looked at",
        "server/callbacks/guard.py",
        "        for answer in answers:\n",
        "        for answer in answers[:1]:\n",
        "tests/server/callbacks/test_guard.py",
    ),
    Bug(
        "two dispatchers at once",
        "server/callbacks/dispatcher.py",
        "if not self._leads and self._ledger.store.lease(LEASE):",
        "if not self._leads:",
        "python -m tests.simulation --seeds 24",
    ),
    Bug(
        "an attempt too many",
        "server/callbacks/schedule.py",
        "if attempt > len(self.waits_s):",
        "if attempt > len(self.waits_s) + 1:",
        "tests/server/callbacks/test_schedule.py",
    ),
    Bug(
        "two sets of beats at once",
        "server/beats.py",
        "return 0.0 if store.lease(LEASE) else LEASE_INTERVAL_S",
        "return 0.0",
        "tests/end_to_end/test_workers.py",
    ),
    Bug(
        "a worker that keeps what another changed",
        "server/app.py",
        "self._is_one_of_many = config.workers > 1",
        "self._is_one_of_many = False",
        "tests/end_to_end/test_workers.py",
    ),
    Bug(
        "a worker that hangs and is left alone",
        "server/workers.py",
        "worker.is_ready and worker.silent_s >= self._hung_after_s",
        "False",
        "tests/end_to_end/test_workers.py",
    ),
    Bug(
        "a laptop that was closed and kills its workers",
        "server/workers.py",
        "min(now_s - self._beat_at_s, SIGN_S)",
        "now_s - self._beat_at_s",
        "tests/server/test_workers.py",
    ),
    Bug(
        "a full disk of which readiness does not tell",
        "ledger/writer.py",
        "            self._note(error, now_us)\n            _answer_all(",
        "            _answer_all(",
        "tests/server/test_health.py",
    ),
    Bug(
        "a server that is never ready again after a full disk",
        "server/app.py",
        '        self._own(self.writes.run(), "writes")\n',
        "",
        "python -m tests.faults --only 'disk is full for a while'",
    ),
    Bug(
        "a sign of growth that only one caller sees",
        "ledger/ledger.py",
        "        if self.size < self._told:\n",
        "        if size is not None:\n",
        "tests/ledger/test_refresh.py",
    ),
    Bug(
        "a clock that may go back",
        "ledger/session.py",
        "self.recorded_us = max(self.recorded_us, self.now_us)",
        "self.recorded_us = self.now_us",
        "tests/contract/test_stores.py",
    ),
    Bug(
        "a stream that says the last event twice",
        "server/hub.py",
        "for place, data in self.frames if place > mark",
        "for place, data in self.frames if place >= mark",
        "tests/server/test_hub.py",
    ),
    Bug(
        "a file that others may read",
        "ledger/private.py",
        "    return os.open(path, flags, SECRET_MODE)\n",
        "    return os.open(path, flags)\n",
        "tests/cli/test_files_kept.py",
    ),
    Bug(
        "a scope that is not asked for",
        "server/auth.py",
        'if scope not in caller.scopes and "admin" not in caller.scopes:',
        "if False:",
        "tests/fuzz/test_machine.py",
    ),
    Bug(
        "a deadline met a moment late",
        "ledger/decider.py",
        "deadline_us > command.now_us:",
        "deadline_us >= command.now_us:",
        "tests/fuzz/test_machine.py",
    ),
    Bug(
        "an as-of that ends a moment early",
        "ledger/state.py",
        "state.effective_us > time_us)",
        "state.effective_us >= time_us)",
        "tests/fuzz/test_machine.py",
    ),
    Bug(
        "a cursor that shows its row again",
        "projections/query.py",
        'later, earlier = ("<", ">") if query.descending else (">", "<")',
        'later, earlier = ("<=", ">=") if query.descending else (">=", "<=")',
        "tests/fuzz/test_machine.py",
    ),
    Bug(
        "a key that answers another request",
        "ledger/commands.py",
        "if request is None or request.digest != context.digest:",
        "if request is None:",
        "tests/fuzz/test_machine.py",
    ),
    Bug(
        "JSON nested too deep",
        "ledger/jsontext.py",
        "            if depth > depth_max:\n",
        "            if depth > depth_max + 5:\n",
        "tests/fuzz/test_parsers.py",
    ),
    Bug(
        "a signature that is not checked",
        "ledger/checkpoint.py",
        "            Ed25519PublicKey.from_public_bytes(self.public).verify(signature.value, text)\n",
        "            Ed25519PublicKey.from_public_bytes(self.public)\n",
        "tests/fuzz/test_parsers.py",
    ),
    Bug(
        "a proof that is not checked",
        "ledger/bundle.py",
        "if not merkle.verify_inclusion(event.position - 1, signed.size, leaf, path, signed.root):",
        "if False:",
        "tests/fuzz/test_parsers.py",
    ),
    Bug(
        "runs of others that are cancelled",
        "server/routes/agents.py",
        "                and exchange.sees(state)\n",
        "",
        "tests/server/test_agents.py",
    ),
    Bug(
        "a deadline that each byte of a body renews",
        "server/exchange.py",
        "asyncio.timeout_at(until)",
        "asyncio.timeout(self.app.config.body_timeout_s)",
        "tests/server/test_connections.py::test_a_body_that_drips_and_then_stops_has_the_time_of_one_body",
    ),
    Bug(
        "memory of bodies that is never given back",
        "server/app.py",
        "                self.bodies.give_back(exchange.body_held)\n",
        "                pass\n",
        "tests/server/test_admission.py::test_whatever_becomes_of_a_request_its_body_is_given_back",
    ),
    Bug(
        "a client that is cut off although it takes its answers",
        "server/protocol.py",
        "        self._blocked_since_s = None\n        super().resume_writing()\n",
        "        super().resume_writing()\n",
        "tests/server/test_connections.py::test_who_takes_its_answers_is_not_cut_off_however_many_they_are",
    ),
    Bug(
        "a deadline that each byte of a head renews",
        "server/protocol.py",
        "            if self._head_since_s is None:\n",
        "            if True:\n",
        "tests/server/test_connections.py::test_a_head_that_drips_wins_no_time",
    ),
    Bug(
        "a place in a line that is never left",
        "projections/line.py",
        "            self.length -= 1\n",
        "            pass\n",
        "tests/projections/test_line.py::test_a_full_line_refuses_the_next_and_has_room_again",
    ),
    Bug(
        "a mistake in one beat that ends the server",
        "server/beats.py",
        "        return BROKEN_RETRY_S\n",
        "        raise\n",
        "tests/server/test_beats.py::test_a_mistake_of_ours_is_told_and_counted_and_does_not_end_the_server",
    ),
    Bug(
        "an overload that does not say when to come again",
        "server/problems.py",
        'headers = {"Retry-After": str(error.facts.get("retry_after_s", RETRY_AFTER_S))}',
        "headers: dict[str, str] = {}",
        "tests/server/test_errors.py::test_a_full_queue_is_unavailable_and_says_when_to_come_back",
    ),
)
