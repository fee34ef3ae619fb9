"""Signatures: a receiver that uses the Standard Webhooks package believes what we sent, and nothing else."""

import base64
import re
from datetime import UTC, datetime

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from ledger.errors import InvalidInput
from server.callbacks.signing import SECRETS_MAX, Signer, new_private_key, new_secret, webhook_id
from tests.server.callbacks.signed import BODY, ID, now_us, secret, text

WHERE = "JOBLEDGER_CALLBACK_SECRET"
# RFC 8032, 7.1, test 1.
SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")


def signed(*secrets, body=BODY, id=ID):
    return Signer.parse(",".join(secrets), WHERE).headers(id, now_us(), body)


def verify_v1a(public, headers, body):
    """Check a v1a signature with the public half alone, as a receiver would by the specification."""
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public.removeprefix("whpk_"), validate=True))
    (signature,) = (part[4:] for part in headers["webhook-signature"].split(" ") if part.startswith("v1a,"))
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key.verify(base64.b64decode(signature, validate=True), content)


# --- what a receiver sees ---------------------------------------------------------------------------------------------


# Secrets and signatures that the reference libraries publish for one message.
PUBLISHED = [
    pytest.param(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        id="v1",
    ),
    pytest.param(
        "whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk=",
        "v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag==",
        id="v1a",
    ),
]


@pytest.mark.parametrize(("key", "signature"), PUBLISHED)
def test_the_published_examples_give_the_signatures_that_are_published(key, signature):
    signer = Signer.parse(key, WHERE)
    assert signer.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330_999_999, b'{"test": 2432232314}') == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": signature,
    }


@pytest.mark.parametrize("body", [BODY, b"{}", b"null", b'"\xf0\x9f\xa6\x8a."'])
def test_a_receiver_with_the_secret_believes_it(body):
    made = new_secret()
    Webhook(made).verify(body, signed(made, body=body))


def test_a_receiver_does_not_believe_another_secret():
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        Webhook(secret(2)).verify(BODY, signed(secret(1)))


def test_a_receiver_sees_any_one_byte_of_the_body_that_was_changed():
    receiver, headers = Webhook(secret(1)), signed(secret(1))
    ascii_only = [index for index, byte in enumerate(BODY) if byte < 128]  # the package refuses what is no UTF-8
    for index in ascii_only:
        changed = bytes([*BODY[:index], BODY[index] ^ 1, *BODY[index + 1 :]])
        with pytest.raises(WebhookVerificationError, match="No matching signature"):
            receiver.verify(changed, headers)
    for other in (BODY[:-1], BODY + b" ", b" " + BODY):
        with pytest.raises(WebhookVerificationError, match="No matching signature"):
            receiver.verify(other, headers)


def test_a_receiver_sees_any_one_character_of_the_id_that_was_changed():
    receiver, headers = Webhook(secret(1)), signed(secret(1))
    for index, character in enumerate(ID):
        changed = ID[:index] + chr(ord(character) ^ 1) + ID[index + 1 :]
        with pytest.raises(WebhookVerificationError, match="No matching signature"):
            receiver.verify(BODY, headers | {"webhook-id": changed})


@pytest.mark.parametrize("seconds", [-1, 1, -60, 60])
def test_a_receiver_sees_that_the_timestamp_was_changed(seconds):
    headers = signed(secret(1))
    changed = str(int(headers["webhook-timestamp"]) + seconds)
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        Webhook(secret(1)).verify(BODY, headers | {"webhook-timestamp": changed})


def test_while_a_secret_is_replaced_receivers_with_the_new_and_with_the_old_believe_it():
    headers = signed(secret(2), secret(1))
    for known in (secret(2), secret(1)):
        Webhook(known).verify(BODY, headers)
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        Webhook(secret(3)).verify(BODY, headers)


def test_the_newest_secret_signs_first_and_each_signs_once():
    newest, *rest = signed(secret(2), secret(1), secret(3))["webhook-signature"].split(" ")
    assert newest == signed(secret(2))["webhook-signature"]
    assert [len(part) for part in (newest, *rest)] == [47] * 3
    assert len({newest, *rest}) == 3


def test_a_receiver_with_the_public_half_believes_v1a_and_sees_every_change():
    private = new_private_key()
    (public,) = Signer.parse(private, WHERE).public()
    headers = signed(private)
    verify_v1a(public, headers, BODY)
    for changed in (
        (headers, BODY[:-1] + b"]"),
        (headers | {"webhook-id": ID[:-1] + "x"}, BODY),
        (headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)}, BODY),
    ):
        with pytest.raises(InvalidSignature):
            verify_v1a(public, *changed)
    (other,) = Signer.parse(new_private_key(), WHERE).public()
    with pytest.raises(InvalidSignature):
        verify_v1a(other, headers, BODY)


def test_both_kinds_of_signature_go_together():
    headers = signed(text("whsk_", SEED), secret(1))
    assert re.fullmatch(r"v1a,[A-Za-z0-9+/]{86}== v1,[A-Za-z0-9+/]{43}=", headers["webhook-signature"])
    verify_v1a(text("whpk_", PUBLIC), headers, BODY)
    Webhook(secret(1)).verify(BODY, headers)


def test_every_attempt_has_the_time_at_which_it_is_made_in_whole_seconds():
    signer = Signer.parse(secret(1), WHERE)
    moments = [datetime(2026, 11, 22, 3, 0, second, 999_999, UTC) for second in range(3)]
    told = [signer.headers(ID, round(moment.timestamp() * 1_000_000), BODY) for moment in moments]
    assert [headers["webhook-timestamp"] for headers in told] == ["1795316400", "1795316401", "1795316402"]
    assert len({headers["webhook-signature"] for headers in told}) == 3
    assert {headers["webhook-id"] for headers in told} == {ID}


@pytest.mark.parametrize(("id", "body"), [("msg.1", b"{}"), (".", b"{}"), ("msg_1", b"\xff{}")])
def test_what_could_be_signed_two_ways_is_not_signed(id, body):
    with pytest.raises(ValueError, match=r"full stop|utf-8"):
        Signer.parse(secret(1), WHERE).headers(id, now_us(), body)


# --- the id -----------------------------------------------------------------------------------------------------------


def test_the_id_of_a_debt_follows_from_the_event_and_never_changes():
    assert webhook_id("job-1", 5) == webhook_id("job-1", 5) == "msg_a36a45e396c25e32c740b79bb3204f92"


def test_every_debt_has_an_id_of_its_own_without_a_full_stop():
    ids = {
        webhook_id(f"{kind}-{number}", version)
        for kind in ("job", "run")
        for number in range(100)
        for version in range(5)
    }
    assert len(ids) == 1000
    assert all(re.fullmatch(r"msg_[0-9a-f]{32}", id) for id in ids)


# --- secrets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "versions"),
    [
        pytest.param(secret(1), ["v1"], id="one"),
        pytest.param(f"  {secret(1)}\n", ["v1"], id="blanks around one"),
        pytest.param(f"{secret(1)} ,\t{secret(2)}", ["v1", "v1"], id="two with blanks between"),
        pytest.param(secret(1, 24), ["v1"], id="the shortest"),
        pytest.param(secret(1, 64), ["v1"], id="the longest"),
        pytest.param(text("whsk_", SEED), ["v1a"], id="an Ed25519 seed"),
        pytest.param(text("whsk_", SEED + PUBLIC), ["v1a"], id="an Ed25519 pair"),
        pytest.param(f"{secret(1)},{text('whsk_', SEED)}", ["v1", "v1a"], id="one of each"),
        pytest.param(f"{text('whsec_', SEED)},{text('whsk_', SEED)}", ["v1", "v1a"], id="the same bytes of two kinds"),
        pytest.param(",".join(secret(n) for n in range(SECRETS_MAX)), ["v1"] * SECRETS_MAX, id="the most"),
    ],
)
def test_secrets_that_are_taken(written, versions):
    signer = Signer.parse(written, WHERE)
    assert [version for version, _ in signer.verifiers()] == versions
    assert [part.partition(",")[0] for part in signer.headers(ID, 0, b"")["webhook-signature"].split(" ")] == versions


@pytest.mark.parametrize("written", [text("whsk_", SEED), text("whsk_", SEED + PUBLIC)], ids=["seed", "pair"])
def test_both_forms_of_an_ed25519_key_have_the_public_half_that_the_rfc_tells(written):
    assert Signer.parse(f"{secret(1)},{written}", WHERE).public() == [text("whpk_", PUBLIC)]


def test_receivers_are_given_the_shared_secret_or_the_public_half_never_the_private():
    signer = Signer.parse(f"{text('whsk_', SEED)},{secret(1)}", WHERE)
    assert signer.verifiers() == [("v1a", text("whpk_", PUBLIC)), ("v1", secret(1))]


@pytest.mark.parametrize(
    ("written", "told"),
    [
        pytest.param("", "holds no secret", id="nothing"),
        pytest.param(" \n", "holds no secret", id="blanks"),
        pytest.param(f"{secret(1)},", "secret 2 of 2 is empty", id="a comma at the end"),
        pytest.param(f"{secret(1)},,{secret(2)}", "secret 2 of 3 is empty", id="two commas"),
        pytest.param(f"{secret(1)} {secret(2)}", "must be standard base64", id="no comma"),
        pytest.param("hunter2hunter2hunter2hunter2", "must begin with whsec_", id="no prefix"),
        pytest.param(secret(1).upper(), "must begin with whsec_", id="prefix in capitals"),
        pytest.param(text("whpk_", PUBLIC), "is a public key", id="a public key"),
        pytest.param("whsec_", "24 to 64 bytes", id="only a prefix"),
        pytest.param(secret(1, 23), "24 to 64 bytes", id="too short"),
        pytest.param(secret(1, 65), "24 to 64 bytes", id="too long"),
        pytest.param(secret(1).rstrip("="), "must be standard base64", id="no padding"),
        pytest.param(secret(1) + "=", "must be standard base64", id="too much padding"),
        pytest.param(secret(255).replace("/", "_"), "must be standard base64", id="the alphabet of URLs"),
        pytest.param(secret(1)[:20] + "\n" + secret(1)[20:], "must be standard base64", id="a line break within"),
        pytest.param(secret(1)[:-2] + "F=", "must be standard base64", id="bits after the end"),
        pytest.param("whsec_" + "é" * 32, "must be standard base64", id="not ASCII"),
        pytest.param("whsec_\udcff" + "A" * 31, "must be standard base64", id="a byte that is no text"),
        pytest.param(text("whsk_", SEED[:31]), "32 bytes (the seed) or 64", id="a short seed"),
        pytest.param(text("whsk_", SEED + PUBLIC[:31]), "32 bytes (the seed) or 64", id="a short pair"),
        pytest.param(text("whsk_", SEED + SEED), "not the seed's", id="halves that are no pair"),
        pytest.param("whsk_" + "hunter2" * 9, "must be standard base64", id="a private key that is no base64"),
        pytest.param(f"{secret(1)},{secret(2)},{secret(1)}", "secret 3 of 3 is there before", id="twice"),
        pytest.param(f"{text('whsk_', SEED)},{text('whsk_', SEED + PUBLIC)}", "secret 2 of 2 is there", id="two forms"),
        pytest.param(",".join(map(secret, range(SECRETS_MAX + 1))), f"at most {SECRETS_MAX}", id="too many"),
    ],
)
def test_what_is_no_secret_is_refused_without_a_word_of_it(written, told):
    with pytest.raises(InvalidInput) as caught:
        Signer.parse(written, WHERE)
    error = caught.value
    assert str(error).startswith(f"{WHERE}: ")
    assert told in str(error)
    assert (error.__cause__, error.__context__) == (None, None)
    pieces = re.split(r"[\s,=]+|whsec_|whsk_|whpk_", written)
    said = repr(error.facts) + repr(error)
    assert not [piece for piece in pieces if len(piece) >= 4 and piece[:8] in said]


def test_a_signer_shows_no_secret():
    written = f"{secret(1)},{text('whsk_', SEED)}"
    shown = f"{Signer.parse(written, WHERE)!r} {Signer.parse(written, WHERE)}"
    assert shown == "<Signer v1 v1a> <Signer v1 v1a>"


def test_fresh_secrets_are_of_full_size_and_never_the_same():
    made = [make() for make in (new_secret, new_private_key) for _ in range(50)]
    assert len(set(made)) == 100
    sizes = {(one.partition("_")[0], len(base64.b64decode(one.partition("_")[2], validate=True))) for one in made}
    assert sizes == {("whsec", 32), ("whsk", 32)}
    for one in made:
        Signer.parse(one, WHERE)
