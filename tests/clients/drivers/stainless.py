"""Drives letta-client 1.x, which Stainless generated; see ``dialogue``.

The client checks single objects strictly by itself. Rows of pages it builds without a check, whatever it was told; so
here each row is put through the very check that it has for objects, and what that says is told as the row's fault.
"""

import asyncio
import json
import sys

import letta_client
from dialogue import Recorder, arrived, converse, each, say
from letta_client import AsyncLetta, DefaultAsyncHttpxClient, DefaultHttpxClient, Letta
from letta_client._models import BaseModel, validate_type


class Driver:
    """Clients of one server, one for each token."""

    def __init__(self, url, asynchronous):
        self.url, self.asynchronous = url, asynchronous
        self.recorder = Recorder()
        self.clients = {}

    def client(self, token):
        if token not in self.clients:
            kind, http = (AsyncLetta, DefaultAsyncHttpxClient) if self.asynchronous else (Letta, DefaultHttpxClient)
            http_client = http(event_hooks=self.recorder.hooks(self.asynchronous))
            self.clients[token] = kind(
                base_url=self.url, api_key=token, http_client=http_client, _strict_response_validation=True
            )
        return self.clients[token]

    async def perform(self, call, method):
        result = method(**call["arguments"])
        if call["take"] == "rows":
            return await self.rows(result)
        if call["take"] == "chunks":
            return await self.chunks(call["name"], result)
        return {"value": show(await arrived(result))}

    async def rows(self, listed):
        rows = [show(row) async for row in each(listed)]
        pages = [body if isinstance(body, list) else body["messages"] for body in self.recorder.bodies]
        faults = [(row, fault) for page in pages for row in page if (fault := fault_of(listed._model, row))]
        return {"rows": rows, "pages": [len(page) for page in pages], "faults": faults}

    async def chunks(self, name, result):
        async for chunk in each(await arrived(result)):
            say(name=name, chunk=show(chunk))
        return {}

    async def close(self):
        for client in self.clients.values():
            await arrived(client.close())


def fault_of(kind, row):
    try:
        validate_type(type_=kind, value=row)
    except ValueError as fault:
        return str(fault)
    return None


def show(value):
    """Return what the client made of an answer: its class, and its fields by the names they have on the wire."""
    if isinstance(value, BaseModel):
        return {"class": type(value).__name__, **value.to_dict(mode="json", warnings=False)}
    return value


async def main():
    hello = json.loads(sys.stdin.readline())
    driver = Driver(hello["url"], hello["asynchronous"])
    await converse(driver, letta_client.__version__, hello)
    await driver.close()


asyncio.run(main())
