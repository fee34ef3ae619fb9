"""``callbacks secret``: what receivers need, and fresh secrets that are stored nowhere."""

import json

import pytest
from standardwebhooks.webhooks import Webhook

from server.callbacks.secret import VARIABLE, load
from server.callbacks.signing import Signer, new_private_key
from tests.cli.commandline import good, jobledger
from tests.server.callbacks.signed import BODY, ID, now_us, secret


@pytest.fixture(autouse=True)
def _no_secret_of_this_machine(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def db(tmp_path):
    return tmp_path / "ledger.db"


def file(tmp_path):
    return tmp_path / "ledger.secret"


def test_while_there_is_none_it_says_who_makes_it_and_makes_nothing(db, tmp_path):
    for options in ([], ["--json"]):
        done = jobledger("callbacks", "secret", "--db", db, *options)
        assert (done.code, done.raw) == (2, b"")
        assert f"{file(tmp_path)} cannot be read: there is none yet; `serve` makes it" in done.err
    assert list(tmp_path.iterdir()) == []


def test_it_prints_the_secret_of_the_file_which_a_receiver_can_check_with(db):
    signer = load(db, {})
    printed = good("callbacks", "secret", "--db", db).out
    Webhook(printed.removesuffix("\n")).verify(BODY, signer.headers(ID, now_us(), BODY))


def test_it_prints_all_in_use_the_newest_first_and_of_a_private_key_the_public_half(db, tmp_path, monkeypatch):
    private = new_private_key()
    (public,) = Signer.parse(private, "test").public()
    file(tmp_path).write_text(f"{secret(9)}\n")
    file(tmp_path).chmod(0o600)
    monkeypatch.setenv(VARIABLE, f"{private}, {secret(1)}")
    assert good("callbacks", "secret", "--db", db).out.splitlines() == [public, secret(1)]
    assert good("callbacks", "secret", "--db", db, "--json").json == {
        "from": VARIABLE,
        "keys": [{"version": "v1a", "key": public}, {"version": "v1", "key": secret(1)}],
    }


def test_json_names_the_file(db, tmp_path):
    load(db, {})
    assert good("callbacks", "secret", "--db", db, "--json").json["from"] == str(file(tmp_path))


@pytest.mark.parametrize(
    ("raw", "mode", "told"),
    [
        (secret(1), 0o644, "chmod 600 "),
        ("", 0o600, "line 1: holds no secret"),
        ("hunter2hunter2", 0o600, "must begin with whsec_"),
        (f"{secret(1)}\nhunter2", 0o600, "line 2: must be empty"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line_on_stderr_without_its_content(db, tmp_path, raw, mode, told):
    file(tmp_path).write_text(raw)
    file(tmp_path).chmod(mode)
    done = jobledger("callbacks", "secret", "--db", db)
    assert (done.code, done.raw, len(done.err.splitlines())) == (2, b"", 1)
    assert told in done.err
    assert "hunter2" not in done.err
    assert secret(1)[6:12] not in done.err


def test_a_fresh_secret_is_printed_alone_and_stored_nowhere(db, tmp_path):
    printed = [good("callbacks", "secret", "--db", db, "--new").out for _ in range(2)]
    assert printed[0] != printed[1]
    for out in printed:
        made = out.removesuffix("\n")
        assert Signer.parse(made, "test").verifiers() == [("v1", made)]
    assert list(tmp_path.iterdir()) == []


def test_a_fresh_ed25519_key_is_printed_with_its_public_half(db, tmp_path):
    private, public = good("callbacks", "secret", "--db", db, "--new", "--ed25519").out.splitlines()
    assert private.startswith("whsk_")
    assert Signer.parse(private, "test").public() == [public]
    assert list(tmp_path.iterdir()) == []


def test_fresh_ones_are_told_as_json_too(db):
    plain = good("callbacks", "secret", "--db", db, "--new", "--json").json
    pair = good("callbacks", "secret", "--db", db, "--new", "--ed25519", "--json").json
    assert (set(plain), set(pair)) == ({"secret"}, {"secret", "public"})
    assert Signer.parse(pair["secret"], "test").public() == [pair["public"]]
    assert json.dumps(plain).count("whsec_") == 1


def test_a_fresh_secret_does_not_look_at_those_in_use(db, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "broken")
    assert good("callbacks", "secret", "--db", db, "--new").out.startswith("whsec_")


def test_ed25519_alone_is_wrong_usage(db):
    done = jobledger("callbacks", "secret", "--db", db, "--ed25519")
    assert (done.code, done.raw) == (2, b"")
    assert "--new" in done.err


def test_a_secret_is_replaced_as_the_help_tells(db, tmp_path):
    # Given a ledger in use, and a receiver with its secret
    load(db, {})
    old = good("callbacks", "secret", "--db", db).out.strip()
    # When a fresh one is put before it
    new = good("callbacks", "secret", "--db", db, "--new").out.strip()
    file(tmp_path).write_text(f"{new},{old}\n")
    both = load(db, {}).headers(ID, now_us(), BODY)
    # Then receivers with the old and with the new believe it, until the old one is removed
    Webhook(old).verify(BODY, both)
    Webhook(new).verify(BODY, both)
    assert good("callbacks", "secret", "--db", db).out.splitlines() == [new, old]
    file(tmp_path).write_text(f"{new}\n")
    assert good("callbacks", "secret", "--db", db).out.splitlines() == [new]
