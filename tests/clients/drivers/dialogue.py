"""What the drivers share: calls come in as JSON lines on stdin, what the client saw goes out as JSON lines on stdout.

A driver runs inside a client's own environment: it has letta_client, what that brings, and the standard library.

First line in: ``{"url", "token", "asynchronous"}``. First line out: ``{"version", "surface"}``. Then for each call,
``{"name", "method", "token", "arguments", "take"}``, one line: ``{"name", "requests"}`` with ``value``, ``rows`` or
``error``. Each chunk of a stream has a line of its own before that, ``{"name", "chunk"}``, as soon as it is there.
"""

import inspect
import json
import sys

RESOURCES = ("jobs", "runs", "steps", "batches")
"""Whose methods all belong to the surface, those of the resources inside them too."""
SINGLE = ("agents.messages.cancel", "conversations.cancel")
"""Methods of other resources that belong to it."""
OF_TRANSPORT = {"extra_headers", "extra_query", "extra_body", "timeout", "request_options"}
"""Parameters that every method has and the server never sees by name."""


class Recorder:
    """What went over the wire since the last ``clear``: requests with their status, and the bodies of the answers."""

    def __init__(self):
        self.clear()

    def clear(self):
        self.requests, self.bodies = [], []

    def note(self, response):
        """Be the hook of a synchronous client."""
        if self._is_whole(response):
            response.read()
            self.bodies.append(response.json())

    async def note_later(self, response):
        """Be the hook of an asynchronous client."""
        if self._is_whole(response):
            await response.aread()
            self.bodies.append(response.json())

    def _is_whole(self, response):
        request = response.request
        self.requests.append([request.method, request.url.raw_path.decode(), response.status_code])
        return not response.headers["content-type"].startswith("text/event-stream")

    def hooks(self, asynchronous):
        return {"response": [self.note_later if asynchronous else self.note]}


def say(**words):
    print(json.dumps(words), flush=True)


async def arrived(result):
    """Return what a method gave, synchronous or not."""
    return await result if inspect.isawaitable(result) else result


async def each(items):
    """Iterate as the kind of client wants it."""
    if hasattr(items, "__aiter__"):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


def find(client, path):
    """Return a method by its path, None where the client has none."""
    for name in path.split("."):
        client = getattr(client, name, None)
    return client


def surface(client):
    """Return every method of the resources that are ours, with the names of its parameters."""
    found = {}

    def walk(path, thing):
        for name in dir(thing):
            if name.startswith(("_", "with_")):
                continue
            value = getattr(thing, name)
            if hasattr(value, "with_raw_response"):
                walk(f"{path}.{name}", value)
            elif callable(value):
                found[f"{path}.{name}"] = value

    for name in RESOURCES:
        if hasattr(client, name):
            walk(name, getattr(client, name))
    found.update((path, method) for path in SINGLE if (method := find(client, path)) is not None)
    return {
        path: [name for name in inspect.signature(method).parameters if name not in OF_TRANSPORT]
        for path, method in found.items()
    }


async def converse(driver, version, hello):
    """Make every call that stdin asks for. A driver has ``client(token)``, ``perform(call, method)`` and a recorder."""
    say(version=version, surface=surface(driver.client(hello["token"])))
    for line in sys.stdin:
        call = json.loads(line)
        driver.recorder.clear()
        seen = {}
        try:
            seen = await driver.perform(call, find(driver.client(call["token"]), call["method"]))
        except Exception as error:  # noqa: BLE001 - whatever a client raises is what there is to see
            status = getattr(error, "status_code", None)
            seen = {"error": {"class": type(error).__name__, "status": status, "text": str(error)}}
        say(name=call["name"], requests=driver.recorder.requests, **seen)
