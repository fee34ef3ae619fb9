"""The house rules as tests: what review would otherwise have to remember.

A rule is a function from a file to its violations, each a line number and a sentence. Every rule is also shown a file
that breaks it, so that none can rot into always being content.
"""

import ast
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("ledger", "projections", "server")
SHIPPED = (*PACKAGES, "scripts", ".ci")
TOP_LEVEL = {"pyproject.toml", "README.md", *PACKAGES, "tests", "scripts", "LICENSE"}

MAY_IMPORT = {
    "ledger": {"ledger"},
    "projections": {"projections", "ledger"},
    "server": {"server", "projections", "ledger"},
}

PURE = (
    *(f"ledger/{name}.py" for name in ("errors", "ids", "events", "upcast", "transitions", "state", "decider")),
    *(f"ledger/{name}.py" for name in ("callbacks", "cloudevents", "merkle")),
    "ledger/formats/*.py",
    *(f"projections/{name}.py" for name in ("course", "forensics", "spans", "toolcalls", "trace")),
    *(f"projections/{name}.py" for name in ("attempts", "durations", "errors", "excerpts", "faults", "gaps", "loops")),
    *(f"projections/{name}.py" for name in ("report", "timeline", "verdict", "worked")),
    *(f"projections/{name}.py" for name in ("alignment", "diff", "differences", "sides", "turns")),
)
IMPURE_IMPORTS = {
    *("asyncio", "threading", "concurrent", "multiprocessing", "subprocess", "signal", "selectors"),  # concurrency
    *("sqlite3", "aiosqlite", "pysqlite3", "pathlib", "shutil", "tempfile", "io", "sys"),  # files
    *("aiohttp", "socket", "ssl", "urllib.request", "http"),  # network
    *("time", "os", "random", "secrets", "uuid", "logging", "structlog"),  # clock, environment, chance, output
}
ALLOWED_IN_PURE = {"ledger/ids.py": {"uuid", "os", "secrets"}}  # makes ids, which takes chance
CLOCK_CALLS = re.compile(r"(datetime|date)\.(now|utcnow|today)$")

VAGUE_NAMES = {"util", "utils", "helper", "helpers", "common", "misc"}
TEXT_SUFFIXES = {".py", ".sh", ".js", ".css", ".html", ".sql", ""}

MAX_FILE_LINES = 400  # the aim is 250; beyond 400 a file holds more than one noun
MAX_FUNCTION_LINES = 60  # the aim is 25; beyond 60 it no longer fits a screen

Violations = Iterator[tuple[int, str]]
Rule = Callable[[PurePosixPath, str], Violations]


# --- the rules --------------------------------------------------------------------------------------------------------


def imports(path: PurePosixPath, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every import's dotted name with its line; relative imports are resolved from the path."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.parts[: len(path.parts) - node.level] if node.level else ()
            base = ".".join([*package, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}".lstrip(".")) for alias in node.names)


def calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str]]:
    """Every call with its dotted name, looking through `import … as` and `from … import`."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            known |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            first, _, rest = ast.unparse(node.func).partition(".")
            yield node, f"{known.get(first, first)}.{rest}".rstrip(".")


def wrong_direction(path: PurePosixPath, source: str) -> Violations:
    package = path.parts[0]
    for line, module in imports(path, ast.parse(source)):
        top = module.partition(".")[0]
        if top in {*PACKAGES, "tests", "scripts"} - MAY_IMPORT[package]:
            yield line, f"{package} imports {top}; code flows server -> projections -> ledger"


def impurity(path: PurePosixPath, source: str) -> Violations:
    tree = ast.parse(source)
    forbidden = IMPURE_IMPORTS - ALLOWED_IN_PURE.get(str(path), set())
    for line, module in imports(path, tree):
        if any(f"{module}.".startswith(f"{name}.") for name in forbidden):
            yield line, f"a pure module imports {module}; time, ids and I/O belong to its caller"
    for call, name in calls(tree):
        if CLOCK_CALLS.search(name):
            yield call.lineno, f"a pure module reads the clock with {name}(); take the time as an argument"


def vague_name(path: PurePosixPath, source: str) -> Violations:
    if path.stem.strip("_").lower() in VAGUE_NAMES:
        yield 1, f"a file named {path.stem!r} says nothing; name the one noun it holds"


def unfinished_work(path: PurePosixPath, source: str) -> Violations:
    for number, line in enumerate(source.splitlines(), 1):
        if found := re.search(r"\b(TODO|FIXME|XXX|HACK)\b", line):
            yield number, f"{found[0]} in shipped code; do it, or write an issue"


def swallowed_exception(path: PurePosixPath, source: str) -> Violations:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ExceptHandler) and all(is_nothing(statement) for statement in node.body):
            yield node.lineno, "an exception is swallowed; handle it, or say contextlib.suppress with a comment why"


def is_nothing(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant) and statement.value.value is ...
    )


def sleep(path: PurePosixPath, source: str) -> Violations:
    for call, name in calls(ast.parse(source)):
        yields_only = [ast.unparse(argument) for argument in call.args] == ["0"]
        if name == "time.sleep" or (name == "asyncio.sleep" and not yields_only):
            yield call.lineno, f"a test calls {name}; wait for an event, or inject time (asyncio.sleep(0) may stay)"


def long_file(path: PurePosixPath, source: str) -> Violations:
    if (length := len(source.splitlines())) > MAX_FILE_LINES:
        yield MAX_FILE_LINES + 1, f"the file has {length} lines, the limit is {MAX_FILE_LINES}; one noun, one file"


def long_function(path: PurePosixPath, source: str) -> Violations:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                yield node.lineno, f"{node.name} has {length} lines, the limit is {MAX_FUNCTION_LINES}; split it"


def missing_docstring(path: PurePosixPath, source: str) -> Violations:
    tree = ast.parse(source)
    is_private = path.stem.startswith("_") and path.stem not in {"__init__", "__main__"}
    if is_private or not tree.body:  # an empty __init__.py needs no explanation
        return
    first = (ast.get_docstring(tree) or "").partition("\n")[0]
    if not first:
        yield 1, "the module has no docstring; say in a full sentence what it is for"
    elif not first.endswith("."):
        yield 1, f"the docstring's first line is no full sentence: {first!r}"


# --- the tree as git sees it ------------------------------------------------------------------------------------------


def repository_files() -> list[PurePosixPath]:
    """Files that are tracked or would be: committed, staged or new, but not ignored and not deleted."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    paths = sorted({PurePosixPath(name) for name in listed.split("\0") if name})
    return [path for path in paths if (ROOT / path).is_file()]


@pytest.fixture(scope="module")
def files() -> list[PurePosixPath]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git clone, so there is no list of its files")
    return repository_files()


def inside(files: Iterable[PurePosixPath], *folders: str, suffixes: Iterable[str] = (".py",)) -> list[PurePosixPath]:
    return [path for path in files if path.parts[0] in folders and path.suffix in suffixes]


def assert_tidy(rule: Rule, files: Iterable[PurePosixPath]) -> None:
    found = [
        f"{path}:{line}: {sentence}"
        for path in files
        for line, sentence in rule(path, (ROOT / path).read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(["the house rules are broken:", *found])


def test_imports_flow_from_server_to_projections_to_ledger(files):
    assert_tidy(wrong_direction, inside(files, *PACKAGES))


def test_pure_modules_know_no_clock_no_chance_and_no_io(files):
    assert_tidy(impurity, [path for path in files if any(fnmatch(str(path), pattern) for pattern in PURE)])


def test_the_top_level_holds_only_what_the_plan_names(files):
    strangers = {path.parts[0] for path in files} - TOP_LEVEL
    strangers = {name for name in strangers if not name.startswith(".")}
    assert not strangers, f"at the top level only {sorted(TOP_LEVEL)} and dotfiles belong, not {sorted(strangers)}"


def test_no_file_has_a_name_that_says_nothing(files):
    assert_tidy(vague_name, inside(files, *SHIPPED, "tests"))


def test_shipped_code_has_no_unfinished_work(files):
    assert_tidy(unfinished_work, inside(files, *SHIPPED, suffixes=TEXT_SUFFIXES))


def test_no_exception_is_swallowed(files):
    assert_tidy(swallowed_exception, inside(files, *SHIPPED, "tests"))


def test_tests_do_not_sleep(files):
    assert_tidy(sleep, inside(files, "tests"))


def test_shipped_files_are_short(files):
    assert_tidy(long_file, inside(files, *SHIPPED, suffixes=TEXT_SUFFIXES))


def test_shipped_functions_are_short(files):
    assert_tidy(long_function, inside(files, *SHIPPED))


def test_every_public_module_says_what_it_is_for(files):
    assert_tidy(missing_docstring, inside(files, *PACKAGES))


# --- the rules themselves ---------------------------------------------------------------------------------------------

BROKEN: list[tuple[Rule, str, str]] = [
    (wrong_direction, "ledger/store.py", "import projections.engine"),
    (wrong_direction, "ledger/store.py", "from server import app"),
    (wrong_direction, "projections/jobs.py", "def f():\n    from server.app import run"),
    (wrong_direction, "ledger/formats/swf.py", "from ...server import app"),
    (wrong_direction, "server/app.py", "from tests import data"),
    (impurity, "ledger/decider.py", "import time"),
    (impurity, "ledger/decider.py", "from os import urandom"),
    (impurity, "ledger/decider.py", "import urllib.request"),
    (impurity, "ledger/formats/swf.py", "from urllib import request"),
    (impurity, "ledger/merkle.py", "from urllib.request import urlopen"),
    (impurity, "ledger/ids.py", "import random"),
    (impurity, "ledger/state.py", "from datetime import datetime as when, UTC\nwhen.now(UTC)"),
    (impurity, "ledger/state.py", "import datetime\ndatetime.date.today()"),
    (vague_name, "server/utils.py", ""),
    (vague_name, "tests/_helpers.py", ""),
    (unfinished_work, "server/app.py", "x = 1  # TODO: more"),
    (swallowed_exception, "server/app.py", "try:\n    f()\nexcept ValueError:\n    pass"),
    (swallowed_exception, "server/app.py", "try:\n    f()\nexcept ValueError: ..."),
    (sleep, "tests/test_a.py", "import time\ntime.sleep(0)"),
    (sleep, "tests/test_a.py", "from asyncio import sleep as nap\nnap(0.1)"),
    (sleep, "tests/test_a.py", "import asyncio\nasyncio.sleep(delay)"),
    (long_file, "server/app.py", "\n" * (MAX_FILE_LINES + 1)),
    (long_function, "server/app.py", "async def f():\n" + "    f()\n" * MAX_FUNCTION_LINES),
    (missing_docstring, "server/app.py", "import json"),
    (missing_docstring, "server/__init__.py", '"""Half a sentence"""'),
]

KEPT: list[tuple[Rule, str, str]] = [
    (wrong_direction, "server/app.py", "import ledger.ledger\nfrom projections import engine\nfrom . import wire"),
    (wrong_direction, "ledger/store.py", "from ledger import events\nimport server_timing"),
    (impurity, "ledger/ids.py", "import uuid\nfrom os import urandom"),
    (impurity, "ledger/state.py", "from datetime import datetime\nfrom urllib.parse import quote"),
    (unfinished_work, "server/app.py", "todo = load()"),
    (swallowed_exception, "server/app.py", "try:\n    f()\nexcept ValueError:\n    return_code = 2"),
    (sleep, "tests/test_a.py", "import asyncio\nasyncio.sleep(0)\nclock.sleep(5)"),
    (long_file, "server/app.py", "\n" * MAX_FILE_LINES),
    (long_function, "server/app.py", "def f():\n" + "    f()\n" * (MAX_FUNCTION_LINES - 1)),
    (missing_docstring, "ledger/__init__.py", ""),
    (missing_docstring, "ledger/store.py", '"""Stores keep events.\n\nMore."""'),
]


@pytest.mark.parametrize(("rule", "path", "source"), BROKEN)
def test_a_rule_sees_the_file_that_breaks_it(rule, path, source):
    assert list(rule(PurePosixPath(path), source))


@pytest.mark.parametrize(("rule", "path", "source"), KEPT)
def test_a_rule_is_content_with_a_file_that_keeps_it(rule, path, source):
    assert not list(rule(PurePosixPath(path), source))
