"""A hostile report in a real browser: nothing is said on the console, nothing is asked of a network, nothing runs."""

import re
import shutil
import subprocess
from urllib.parse import urlsplit

import pytest

from tests.cli.commandline import good
from tests.cli.reporting import EVIL, WRONG

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--hide-scrollbars", "--enable-logging=stderr", "--v=0", "--window-size=1280,2000",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # whatever is asked for: nothing leaves this machine
]  # fmt: skip
OWN_HOSTS = (".google.com", ".googleapis.com", ".gvt1.com")
"""What Chromium asks by itself, whatever page it shows."""


class Opened:
    """A page as the browser had it: its document, its console, and what it asked for over a network."""

    def __init__(self, path, folder):
        log = folder / "net.json"
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}", "--dump-dom"]
        done = subprocess.run([*command, path.as_uri()], capture_output=True, check=True, timeout=100)
        self.document = done.stdout.decode()
        self.console = [line for line in done.stderr.decode().splitlines() if "CONSOLE" in line]
        self.asked = urls_in(log.read_text())


def urls_in(log):
    """The addresses that pages asked for, from Chromium's own log, whose end may be cut off."""
    assert log.startswith('{"constants":'), "it is no log"
    found = set(re.findall(r'"url":"((?:https?|wss?|ftp)://[^"]*)"', log))
    return {url for url in found if not (urlsplit(url).hostname or "").endswith(OWN_HOSTS)}


@pytest.fixture(scope="module")
def opened(reports, tmp_path_factory):
    folder = tmp_path_factory.mktemp("chromium")
    path = folder / "report.html"
    good("report", "--db", reports, EVIL, "--html", path)
    return Opened(path, folder)


def test_the_console_is_silent_and_no_request_leaves(opened):
    assert opened.console == []
    assert opened.asked == set()


def test_no_script_of_the_text_has_run(opened):
    assert "<title>failed · run-" in opened.document
    assert "owned" in opened.document  # as text


def test_a_page_that_would_load_something_is_seen_to(tmp_path):
    """The test above can fail: the same browser tells of a page that is not ours."""
    path = tmp_path / "other.html"
    path.write_text(
        "<title>a</title><img src=http://evil.example/x><script>document.title='owned';console.log('x')</script>"
    )
    opened = Opened(path, tmp_path)
    assert opened.asked == {"http://evil.example/x"}
    assert "<title>owned</title>" in opened.document
    assert len(opened.console) >= 1


def test_an_ordinary_report_is_silent_too(reports, tmp_path):
    path = tmp_path / "report.html"
    good("report", "--db", reports, WRONG, "--html", path)
    opened = Opened(path, tmp_path)
    assert (opened.console, opened.asked) == ([], set())
