"""Drives letta-client 0.1.x, which Fern generated; see ``dialogue``.

It does not page by itself, so its users do, and so does this: ``after`` the last id, or ``before`` the first. It builds
everything without a check; so here each object is put through the check of its class, and what that says is told.
"""

import asyncio
import json
import sys
from importlib.metadata import version

from dialogue import Recorder, arrived, converse, each, say
from letta_client import AsyncLetta, Letta, LettaBatchRequest, MessageCreate


class Driver:
    """Clients of one server, one for each token."""

    def __init__(self, url, asynchronous):
        self.url, self.asynchronous = url, asynchronous
        self.recorder = Recorder()
        self.clients = {}

    def client(self, token):
        if token not in self.clients:
            client = (AsyncLetta if self.asynchronous else Letta)(base_url=self.url, token=token)
            client._client_wrapper.httpx_client.httpx_client.event_hooks = self.recorder.hooks(self.asynchronous)
            self.clients[token] = client
        return self.clients[token]

    async def perform(self, call, method):
        arguments = dict(call["arguments"])
        if "requests" in arguments:
            arguments["requests"] = [batch_request(**request) for request in arguments["requests"]]
        if call["take"] == "rows":
            return await self.rows(method, arguments)
        result = method(**arguments)
        if call["take"] == "chunks":
            return await self.chunks(call["name"], result)
        value = await arrived(result)
        objects = value if isinstance(value, list) else [value]
        shown = [show(item) for item in objects]
        return {"value": shown if isinstance(value, list) else shown[0], "faults": faults_of(objects)}

    async def rows(self, method, arguments):
        rows, pages, faults = [], [], []
        while not pages or pages[-1]:
            answer = await arrived(method(**arguments))
            page = answer if isinstance(answer, list) else answer.messages
            pages.append(len(page))
            rows += map(show, page)
            faults += faults_of(page)
            if page and "before" in arguments:
                arguments["before"] = page[0].id
            elif page:
                arguments["after"] = page[-1].id
        return {"rows": rows, "pages": pages, "faults": faults}

    async def chunks(self, name, result):
        async for chunk in each(result):
            say(name=name, chunk=show(chunk))
        return {}

    async def close(self):
        for client in self.clients.values():
            http = client._client_wrapper.httpx_client.httpx_client
            await arrived(http.aclose() if self.asynchronous else http.close())


def batch_request(*, messages, **more):
    return LettaBatchRequest(messages=[MessageCreate(**message) for message in messages], **more)


def show(value):
    """Return what the client made of an answer: its class, and its fields by the names they have on the wire."""
    if not hasattr(value, "model_fields_set"):
        return value
    return {"class": type(value).__name__, **json.loads(value.json())}


def faults_of(objects):
    """Return those that have not the shape of their class, each with what is wrong."""
    faults = []
    for item in objects:
        if hasattr(item, "model_fields_set"):
            fields = json.loads(item.json())
            try:
                type(item).model_validate(fields)
            except ValueError as fault:
                faults.append((fields, str(fault)))
    return faults


async def main():
    hello = json.loads(sys.stdin.readline())
    driver = Driver(hello["url"], hello["asynchronous"])
    await converse(driver, version("letta-client"), hello)
    await driver.close()


asyncio.run(main())
