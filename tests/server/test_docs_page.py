"""The page of the documentation: it runs by itself, asks nobody but this server, and shows text as text."""

import asyncio
import base64
import hashlib
import re
import shutil
import subprocess

import msgspec
import pytest

from server.openapi.page import STATIC

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--virtual-time-budget=4000"),
    *("--enable-logging=stderr", "--v=0", "--dump-dom"),
]
HOSTILE = "<script>document.title='broken in'</script><img src=x onerror=\"document.title='broken in'\">"


def policy_of(answer):
    parts = (part.split(" ") for part in answer.headers["Content-Security-Policy"].split("; "))
    return {name: values for name, *values in parts}


def digest(text):
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


async def dom(service, folder):
    """What a browser makes of the page, and what it complains of."""
    page = f"http://127.0.0.1:{service.port}/docs"
    process = await asyncio.create_subprocess_exec(
        CHROMIUM,
        *FLAGS,
        f"--user-data-dir={folder}",
        page,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, errors = await asyncio.wait_for(process.communicate(), 60)
    return out.decode(), [line for line in errors.decode().splitlines() if "CONSOLE" in line]


async def test_the_page_is_one_answer_that_only_its_own_style_and_script_run_in(service):
    answer = await service.request("GET", "/docs")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    (style,) = re.findall(r"<style>(.*?)</style>", answer.body.decode(), re.DOTALL)
    (script,) = re.findall(r"<script>(.*?)</script>", answer.body.decode(), re.DOTALL)
    policy = policy_of(answer)
    for name in ("default-src", "base-uri", "form-action", "frame-ancestors"):
        assert policy[name] == ["'none'"], name
    assert policy["style-src"] == [digest(style)]
    assert policy["script-src"] == [digest(script)]
    assert policy["connect-src"] == ["'self'"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("path", sorted(STATIC.glob("docs.*")), ids=lambda path: path.name)
def test_the_page_asks_for_nothing_from_elsewhere_and_makes_no_markup_of_text(path):
    text = path.read_text()
    assert not re.findall(r"""(?:https?:)?//[a-z0-9]|\burl\(|@import|\bimport\(""", text.replace("// ", ""))
    assert not re.findall(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|\bon\w+=", text
    )
    assert set(re.findall(r'(?:href|src)="([^"]*)"', text)) <= {"data:,", "/openapi.json", "#main", "#top"}


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
async def test_a_browser_shows_every_route_without_complaint(service, tmp_path):
    shown, complaints = await dom(service, tmp_path)
    assert complaints == []
    operations = [
        each for methods in msgspec.json.decode(service.app.openapi)["paths"].values() for each in methods.values()
    ]
    assert len(re.findall(r'<details class="card(?: deprecated)?" id', shown)) == len(operations)
    assert all(f'id="{operation["operationId"]}"' in shown for operation in operations)


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
async def test_a_browser_shows_hostile_text_as_text(service, tmp_path):
    # given a document with markup wherever there is text
    document = msgspec.json.decode(service.app.openapi)
    document["info"]["description"] = HOSTILE
    document["components"]["schemas"]["Job"]["description"] = HOSTILE
    document["components"]["schemas"][HOSTILE] = {"type": "object", "properties": {HOSTILE: {"enum": [HOSTILE]}}}
    listing = document["paths"]["/v1/jobs"]["get"]
    listing |= {"summary": HOSTILE, "description": HOSTILE, "operationId": HOSTILE}
    listing["parameters"].append({"name": HOSTILE, "in": HOSTILE, "description": HOSTILE, "schema": {"type": HOSTILE}})
    document["paths"][f"/{HOSTILE}"] = {"get": listing}
    service.app.openapi = msgspec.json.encode(document)
    # when a browser shows it
    shown, complaints = await dom(service, tmp_path)
    # then it stands there as text, and nothing of it ran
    assert complaints == []
    assert "<title>Job Ledger: HTTP API</title>" in shown
    assert "<img" not in shown
    assert shown.count("<script>") == 1
    assert shown.count("&lt;script&gt;") > 8
