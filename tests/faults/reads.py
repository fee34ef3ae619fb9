"""What a server answers to every read of what a ledger holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.faults.starts import WORD
from tests.server.serving import User, serving

LISTS = (
    *("/v1/jobs", "/v1/jobs/active", "/v1/runs", "/v1/_internal_runs", "/v1/runs/active", "/v1/messages/batches"),
    *("/v1/steps", "/v1/failures", "/v1/stats", f"/v1/search?query={WORD}", "/v1/events"),
)
OF_A_RUN = ("", "/events", "/callback", "/messages", "/steps", "/usage", "/metrics", "/trace", "/report")
OF_A_JOB = ("", "/events", "/callback")
OF_A_STEP = ("", "/messages", "/metrics", "/trace")
OF_A_BATCH = ("", "/messages")


async def answers(db: Path, token: str | None = None) -> tuple[str, dict[str, tuple[int, bytes]]]:
    """Serve a ledger and ask for all that reads show; return the admin's token, made where not given, and answers."""
    async with serving(db) as service:
        admin = await service.admin() if token is None else User(service, "", token)
        found = {}
        for path in LISTS:
            found[path] = await admin.get(path)
            assert found[path].status == 200, (path, found[path].body)
        assert WORD.encode() in found[f"/v1/search?query={WORD}"].body
        ids = {path: found[path].ids for path in ("/v1/jobs", "/v1/runs", "/v1/steps", "/v1/messages/batches")}
        for path in _each(ids):
            found[path] = await admin.get(path)
        return admin.token, {path: (answer.status, answer.body) for path, answer in found.items()}


def _each(ids: dict[str, Sequence[str]]) -> Iterator[str]:
    """Yield the paths of single resources, by the ids of each list."""
    of = {"/v1/jobs": OF_A_JOB, "/v1/runs": OF_A_RUN, "/v1/steps": OF_A_STEP, "/v1/messages/batches": OF_A_BATCH}
    for path, parts in of.items():
        assert ids[path], path
        yield from (f"{path}/{id}{part}" for id in ids[path] for part in parts)
