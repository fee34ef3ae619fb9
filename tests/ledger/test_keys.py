"""The key of a ledger: made once, private, its public half beside it, and never lost when another takes its place."""

import multiprocessing
import stat

import pytest

from ledger import keys
from ledger.checkpoint import Signer, verify
from ledger.errors import Unreadable

NAME = "ledger.example/one"


@pytest.fixture
def db(tmp_path):
    return tmp_path / "ledger.db"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_first_use_makes_the_key_for_its_owner_alone_and_publishes_the_other_half(db):
    signer = keys.load(db, NAME)
    assert mode(keys.key_path(db)) == 0o600
    assert mode(keys.public_path(db)) == 0o644
    assert keys.key_path(db).read_text() == f"{signer.to_text()}\n"
    assert keys.published(db) == [signer.verifier]
    # The next use finds it
    assert keys.load(db, NAME).verifier == signer.verifier
    assert sorted(path.name for path in db.parent.iterdir()) == ["ledger.key", "ledger.pub"]


def _load(db, found):
    found.put(keys.load(db, NAME).to_text())


def answers_of(work, db, processes, answers):
    """What processes put into their queue that do a work at the same time."""
    spawn = multiprocessing.get_context("fork")
    found = spawn.Queue()
    started = [spawn.Process(target=work, args=(db, found)) for _ in range(processes)]
    for process in started:
        process.start()
    texts = {found.get(timeout=30) for _ in range(answers)}
    for process in started:
        process.join(30)
    return texts


def test_processes_that_start_at_once_get_the_same_key(db):
    assert answers_of(_load, db, 8, 8) == {keys.key_path(db).read_text().strip()}


def test_a_fresh_key_takes_the_old_ones_place_and_what_that_signed_stays_valid(db):
    old = keys.load(db, NAME)
    new = keys.renew(db, NAME)
    assert keys.load(db, NAME).verifier == new.verifier != old.verifier
    assert keys.published(db) == [old.verifier, new.verifier]
    for signer in (old, new):
        assert verify(signer.sign(1, bytes(32)), keys.published(db))[1] == signer.verifier


def test_a_lost_public_half_is_published_again(db):
    signer = keys.load(db, NAME)
    keys.public_path(db).unlink()
    assert keys.published(db) == []
    keys.load(db, NAME)
    assert keys.published(db) == [signer.verifier]


def test_a_ledger_named_like_its_key_is_not_taken_for_it(tmp_path):
    for name in ("x.key", "x.pub"):
        db = tmp_path / name
        assert db not in (keys.key_path(db), keys.public_path(db))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "must hold one line"),
        ("nonsense\n", "is no signer's key"),
        (f"{Signer('another.example', bytes(32)).to_text()}\n", "holds the key of 'another.example'"),
        (f"{Signer(NAME, bytes(32)).to_text()}\n" * 2, "must hold one line"),
        ("x" * 5000, "must hold one line"),
    ],
)
def test_what_is_no_key_of_this_ledger_is_refused_and_left_alone(db, content, said):
    path = keys.key_path(db)
    path.write_text(content)
    path.chmod(0o600)
    for use in (keys.load, keys.renew):
        with pytest.raises(Unreadable, match=said):
            use(db, NAME)
    assert path.read_text() == content
    assert not keys.public_path(db).exists()


def test_a_key_that_others_can_read_is_refused_with_what_to_do(db):
    keys.load(db, NAME)
    keys.key_path(db).chmod(0o640)
    with pytest.raises(Unreadable, match="chmod 600"):
        keys.load(db, NAME)


@pytest.mark.parametrize("which", [keys.key_path, keys.public_path])
def test_a_folder_in_the_files_place_is_named(db, which):
    which(db).mkdir()
    with pytest.raises(Unreadable, match=which(db).name):
        keys.load(db, NAME)


def test_public_keys_that_are_none_are_refused_before_anything_is_signed(db):
    keys.public_path(db).write_text("nonsense\n")
    for use in (keys.published, lambda db: keys.load(db, NAME)):
        with pytest.raises(Unreadable, match=r"ledger\.pub cannot be read: the file, line 1"):
            use(db)


def test_a_ledger_that_is_reached_by_a_link_has_one_key(db, tmp_path):
    db.touch()
    link = tmp_path / "elsewhere" / "link.db"
    link.parent.mkdir()
    link.symlink_to(db)
    assert keys.load(link, NAME).verifier == keys.load(db, NAME).verifier
    assert list(link.parent.iterdir()) == [link]


def test_hundreds_of_keys_are_read(db):
    signers = [keys.load(db, NAME), *(keys.renew(db, NAME) for _ in range(100))]
    assert keys.published(db) == [signer.verifier for signer in signers]
    assert keys.load(db, NAME).verifier == signers[-1].verifier


def _renew(db, found):
    for _ in range(5):
        found.put(str(keys.renew(db, NAME).verifier))


def test_processes_that_renew_a_key_at_once_lose_none(db):
    assert answers_of(_renew, db, 4, 20) == {str(key) for key in keys.published(db)}
    assert keys.load(db, NAME).verifier == keys.published(db)[-1]


def test_a_process_that_ended_between_putting_a_key_in_place_and_publishing_it_harms_nothing(db, monkeypatch):
    old = keys.load(db, NAME)
    publish = keys._publish

    def die(db, key):
        if key == old.verifier:
            return publish(db, key)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keys, "_publish", die)
    with pytest.raises(Unreadable, match="No space left"):
        keys.renew(db, NAME)
    monkeypatch.undo()
    # The next who signs publishes it before
    new = keys.load(db, NAME).verifier
    assert keys.published(db) == [old.verifier, new]
    assert new != old.verifier


def test_a_key_that_was_replaced_and_is_put_back_signs_nothing_until_another_takes_its_place(db):
    keys.load(db, NAME)
    old = keys.key_path(db).read_bytes()
    keys.renew(db, NAME)
    keys.key_path(db).write_bytes(old)
    with pytest.raises(Unreadable, match="another key took its place"):
        keys.load(db, NAME)
    new = keys.renew(db, NAME)
    assert keys.load(db, NAME).verifier == new.verifier == keys.published(db)[-1]
    assert len(keys.published(db)) == 3


def test_the_last_checkpoint_is_remembered_and_an_older_one_never_again(db):
    signer = keys.load(db, NAME)
    assert keys.remembered(db) is None
    for size in (3, 9, 5):
        keys.remember(db, signer.sign(size, bytes(32)))
    assert keys.remembered(db) == signer.sign(9, bytes(32))
    keys.remember(db, signer.sign(5, bytes(32)), anew=True)
    assert keys.remembered(db) == signer.sign(5, bytes(32))
    keys.signed_path(db).write_text("nonsense")
    with pytest.raises(Unreadable, match=r"signed cannot be read: the file: is no signed note.*--new-key"):
        keys.remembered(db)
