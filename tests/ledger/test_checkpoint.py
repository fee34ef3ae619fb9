"""Checkpoints are notes of the C2SP: read with care, believed only when a known key signed them."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.checkpoint import NOTE_SIZE_MAX, Signer, VerifierKey, parse, parse_keys, verify
from ledger.errors import InvalidInput
from tests.ledger import checker

# The key of the documentation of Go's golang.org/x/mod/sumdb/note, and what it signs there.
GO_PRIVATE = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_PUBLIC = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_TEXT = b"If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_SIGNATURE = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
# The example of the C2SP's tlog-checkpoint, whose keys are not told.
C2SP = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa "
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
)
NAME = "ledger.example/one"
ROOT = bytes(range(32))
SIGNER = Signer(NAME, bytes(32))
OTHER = Signer(NAME, bytes([1] * 32))
NOTE = SIGNER.sign(1042, ROOT)


def test_keys_and_signatures_are_those_of_gos_note_package():
    key = VerifierKey.parse(GO_PUBLIC)
    signer = Signer.parse(GO_PRIVATE)
    assert signer.verifier == key
    assert (str(key), signer.to_text()) == (GO_PUBLIC, GO_PRIVATE)
    raw = base64.b64decode(GO_SIGNATURE)
    assert key.key_hash == raw[:4]
    line = parse(f"a\n1\n{base64.b64encode(ROOT).decode()}\n\n— PeterNeumann {GO_SIGNATURE}\n").signatures[0]
    assert key.made(line, GO_TEXT)
    assert not key.made(line, GO_TEXT + b" ")


def test_the_example_of_the_standard_is_read():
    found = parse(C2SP)
    assert found[:2] == ("example.com/behind-the-sofa", 20852163)
    assert base64.b64encode(found.root).decode() == C2SP.splitlines()[2]
    assert [(each.name, len(each.value)) for each in found.signatures] == [("example.com/behind-the-sofa", 64)]


def test_a_note_is_believed_by_who_has_the_key_and_by_the_checker_from_the_standard():
    key = SIGNER.verifier
    found, signer = verify(NOTE, [OTHER.verifier, key])
    assert (found[:3], signer) == ((NAME, 1042, ROOT), key)
    assert checker.checkpoint_of(NOTE, str(key)) == (NAME, 1042, ROOT)
    assert SIGNER.signed(NOTE)
    assert not OTHER.signed(NOTE)


def test_lines_and_co_signatures_of_others_do_not_matter():
    text, signature = NOTE.split("\n\n")
    more = Signer("witness.example", bytes([2] * 32))
    both = f"{NOTE}{more.sign(1042, ROOT).split(chr(10) * 2)[1]}"
    assert verify(both, [SIGNER.verifier])[0].size == 1042
    assert len(parse(f"{text}\nan extension line\n\n{signature}").signatures) == 1


@pytest.mark.parametrize("at", range(len(NOTE)))
def test_a_note_with_any_character_changed_is_not_believed(at):
    changed = NOTE[:at] + chr(ord(NOTE[at]) ^ 1) + NOTE[at + 1 :]
    with pytest.raises(InvalidInput):
        verify(changed, [SIGNER.verifier])


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ([], "trusted here \\(none\\)"),
        ([OTHER.verifier], "not signed by a key that is trusted"),
        ([Signer("another.example", bytes(32)).verifier], "not signed by a key that is trusted"),
    ],
)
def test_a_note_by_an_unknown_key_is_not_believed(keys, said):
    with pytest.raises(InvalidInput, match=said):
        verify(NOTE, keys)


def test_a_witness_alone_does_not_speak_for_a_ledger():
    witness = Signer("witness.example", bytes(32))
    value = Ed25519PrivateKey.from_private_bytes(bytes(32)).sign(f"{ABOVE}\n".encode())
    line = f"— witness.example {base64.b64encode(witness.verifier.key_hash + value).decode()}\n"
    assert witness.signed(f"{ABOVE}\n\n{line}")
    with pytest.raises(InvalidInput, match="not signed by a key that is trusted"):
        verify(f"{ABOVE}\n\n{line}", [witness.verifier])


ABOVE, BELOW = NOTE.split("\n\n")
ORIGIN, SIZE, ROOT_TEXT = ABOVE.split("\n")


@pytest.mark.parametrize(
    ("note", "said"),
    [
        ("", "no signed note"),
        ("\n\n", "no checkpoint|no signed note"),
        ("x" * (NOTE_SIZE_MAX + 1), "longer than"),
        (ABOVE, "no signed note"),
        (f"{ABOVE}\n\n", "no signature|no signed note"),
        (NOTE[:-1], "no signed note"),
        (NOTE.replace("\n", "\r\n"), "control character"),
        (f"{ORIGIN}\n{SIZE}\n\n{BELOW}", "needs lines of origin, size and root"),
        (f"{ORIGIN}\n\n{SIZE}\n{ROOT_TEXT}\n\n{BELOW}", "needs lines"),
        (f"a b\n{SIZE}\n{ROOT_TEXT}\n\n{BELOW}", "blanks or a plus"),
        (f"a+b\n{SIZE}\n{ROOT_TEXT}\n\n{BELOW}", "blanks or a plus"),
        *[
            (f"{ORIGIN}\n{size}\n{ROOT_TEXT}\n\n{BELOW}", "no size of a tree")
            for size in ("-1", "01", "1.0", "٣", "one", "1" * 20, "1 ")
        ],
        (f"{ORIGIN}\n{SIZE}\nAAAA\n\n{BELOW}", "no root: 3 bytes"),
        (f"{ORIGIN}\n{SIZE}\n{ROOT_TEXT[:-1]}\n\n{BELOW}", "no base64"),
        (f"{ORIGIN}\n{SIZE}\né{ROOT_TEXT[1:]}\n\n{BELOW}", "no base64"),
        (f"{ORIGIN}\n{SIZE}\n{ROOT_TEXT[:-2]}9=\n\n{BELOW}", "one right spelling"),
        (f"{ABOVE}\n\n- {NAME} AAAAAAAA\n", "no signature"),
        (f"{ABOVE}\n\n— {NAME}\n", "no signature"),
        (f"{ABOVE}\n\n— {NAME} AAAA\n", "too short"),
        (f"{ABOVE}\n\n{BELOW * 101}", "more than 100 signatures"),
        (f"{ABOVE}\n\ud800\n\n{BELOW}", "no Unicode"),
        (f"{ABOVE}\n\x00\n\n{BELOW}", "control character"),
    ],
)
def test_what_is_no_checkpoint_is_refused_with_what_is_wrong(note, said):
    with pytest.raises(InvalidInput, match=said):
        parse(note)


PUBLIC = str(SIGNER.verifier)


@pytest.mark.parametrize(
    "line",
    [
        *(
            "",
            "x",
            "a+b",
            f"{PUBLIC}x",
            PUBLIC.replace("one", "two"),
            PUBLIC.replace("+A", "+B"),
            f"+{PUBLIC}",
            "a+b+c+d",
        ),
        PUBLIC.replace("one", "\udcff"),  # found by: scripts/fuzz --only 'verifier keys' --seed 1 --input 594
    ],
)
def test_what_is_no_verifier_key_is_refused(line):
    with pytest.raises(InvalidInput):
        VerifierKey.parse(line)


@pytest.mark.parametrize(
    "line",
    [
        *(PUBLIC, "", GO_PRIVATE[:-1], GO_PRIVATE.replace("c74f", "c74e"), f"{GO_PRIVATE}AA"),
        GO_PRIVATE.replace("Peter", "\ud800"),
    ],
)
def test_what_is_no_signers_key_is_refused_and_never_shown(line):
    with pytest.raises(InvalidInput) as caught:
        Signer.parse(line)
    assert "AYEKFALVFGy" not in str(caught.value)
    assert "AYEKFALVFGy" not in repr(caught.value.faults)


def test_a_file_of_keys_has_one_a_line_and_may_have_comments():
    text = f"# the old one\n{PUBLIC}\n\n  {OTHER.verifier}  \n"
    assert parse_keys(text) == [SIGNER.verifier, OTHER.verifier]
    with pytest.raises(InvalidInput, match="line 3"):
        parse_keys(f"{PUBLIC}\n\nnonsense\n")
    with pytest.raises(InvalidInput, match="holds no verifier key"):
        parse_keys("# nothing\n")
