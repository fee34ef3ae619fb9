"""What producers say in tests of messages and steps: short makers of bodies, and walks through pages."""

from __future__ import annotations

from typing import Any

from tests.server.serving import User


def message_id(number: int) -> str:
    return f"message-00000000-0000-4000-8000-{number:012x}"


def step_id(number: int) -> str:
    return f"step-00000000-0000-4000-8000-{number:012x}"


def text(number: int | None = None, content: str = "hi", **more: Any) -> dict[str, Any]:
    """An assistant's message, of a known id where there is a number."""
    named = {} if number is None else {"id": message_id(number)}
    return {**named, "message_type": "assistant_message", "content": content, **more}


async def walk(user: User, path: str, cursor: str, **query: Any) -> list[list[dict[str, Any]]]:
    """All pages, as letta-client walks: ``after`` the last id, or ``before`` the first, until a page is empty."""
    pages: list[list[dict[str, Any]]] = []
    asked = "&".join(f"{name}={value}" for name, value in query.items())
    mark = ""
    for _ in range(1000):
        answer = await user.get(f"{path}?{asked}{mark}")
        assert answer.status == 200, answer.body
        page = answer.json["messages"] if isinstance(answer.json, dict) else answer.json
        if not page:
            return pages
        pages.append(page)
        mark = f"&{cursor}={page[-1 if cursor == 'after' else 0]['id']}"
    raise AssertionError("the walk does not end")


async def follow(user: User, path: str) -> list[list[dict[str, Any]]]:
    """All pages, by ``Link: rel=next``."""
    pages, at = [], path
    while True:
        answer = await user.get(at)
        assert answer.status == 200, answer.body
        pages.append(answer.json)
        if answer.next_path is None:
            return pages
        at = answer.next_path
