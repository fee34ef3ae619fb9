"""Bodies that come packed: what is whole is taken, what is cut off or followed by more is refused as a whole."""

import gzip
import zlib

import msgspec
import pytest

from ledger import ids
from server.problems import BrokenBody
from server.unpacking import PIECE_SIZE, Packed, unpacker
from tests.server.test_errors import check_shape

BODY = b'{"metadata":{"a":1}}'


def raw_deflate(body):
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


PACKED = {
    "gzip": gzip.compress(BODY),
    "GZIP": gzip.compress(BODY),
    "x-gzip": gzip.compress(BODY),
    "deflate": zlib.compress(BODY),
    "Deflate": raw_deflate(BODY),
    "identity": BODY,
}


@pytest.mark.parametrize("coding", PACKED)
async def test_a_packed_body_is_taken(user, coding):
    answer = await user.post("/v1/jobs", data=PACKED[coding], headers={"Content-Encoding": coding})
    assert (answer.status, answer.json["metadata"]) == (201, {"a": 1})


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, gzip", "é"])
async def test_a_coding_that_is_not_known_is_refused(user, coding):
    answer = await user.post("/v1/jobs", data=BODY, headers={"Content-Encoding": coding})
    check_shape(answer, 400, "invalid_request")
    assert answer.error["message"].endswith("gzip, deflate and identity are.")


def broken():
    whole = gzip.compress(BODY)
    yield from ((f"gzip cut at {at}", "gzip", whole[:at]) for at in range(1, len(whole)))
    yield from ((f"zlib cut at {at}", "deflate", zlib.compress(BODY)[:at]) for at in (1, 2, 10))
    yield "two streams", "gzip", whole * 2
    yield "more behind it", "gzip", whole + b"\0"
    yield "a wrong sum", "gzip", whole[:-8] + b"\0" * 8
    yield "no gzip", "gzip", BODY


@pytest.mark.parametrize(("coding", "sent"), [pytest.param(*row, id=name) for name, *row in broken()])
async def test_a_packed_body_that_is_not_whole_is_refused_as_a_whole(user, coding, sent):
    size = user.service.app.ledger.size
    answer = await user.post("/v1/jobs", data=sent, headers={"Content-Encoding": coding})
    check_shape(answer, 400, "invalid_request")
    assert answer.headers["Connection"] == "close"
    assert user.service.app.ledger.size == size


async def test_of_a_bulk_append_that_is_cut_off_between_two_lines_nothing_is_done(user):
    # given lines that are packed so that the first of them can be read alone
    event = {"specversion": "1.0", "type": "job.created", "data": {"user_id": user.id}}
    lines = [msgspec.json.encode({**event, "subject": ids.make("job")}) + b"\n" for _ in range(2)]
    packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    first = packer.compress(lines[0]) + packer.flush(zlib.Z_FULL_FLUSH)
    rest = packer.compress(lines[1]) + packer.flush()
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/x-ndjson"}
    size = user.service.app.ledger.size
    # when the second is lost
    answer = await user.post("/v1/events", data=first, headers=headers)
    # then
    check_shape(answer, 400, "invalid_request")
    assert user.service.app.ledger.size == size
    assert (await user.post("/v1/events", data=first + rest, headers=headers)).json["appended"] == 2


async def test_what_need_not_be_there_may_be_called_packed(user):
    assert (await user.post("/v1/jobs", headers={"Content-Encoding": "gzip"})).status == 201


@pytest.mark.parametrize("cut", [1, 7, 1000])
def test_pieces_are_small_however_a_body_is_packed_and_cut(cut):
    whole = bytes(1_000_000)
    sent, packed = gzip.compress(whole), Packed(is_gzip=True)
    pieces = [piece for at in range(0, len(sent), cut) for piece in packed.unpack(sent[at : at + cut])]
    assert b"".join(pieces) == whole
    assert max(map(len, pieces)) <= PIECE_SIZE
    assert packed.is_whole


def test_a_stream_that_goes_on_behind_its_end_in_another_chunk_is_broken():
    packed = unpacker("gzip")
    assert b"".join(packed.unpack(gzip.compress(BODY))) == BODY
    with pytest.raises(BrokenBody):
        list(packed.unpack(b"x"))
