"""Bodies that come packed: as much of them at a time as is asked for, and none that is cut off passes for whole.

aiohttp would unpack them, too, but takes a gzip body without its end for a whole one: of a bulk append there would be a
part, and all of it answered for.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

from ledger.errors import BadRequest
from server.problems import BrokenBody

PIECE_SIZE: Final = 64 * 1024
"""Bytes that are unpacked at a time."""


class Plain:
    """A body that is not packed."""

    is_whole = True

    def unpack(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what a chunk holds."""
        yield chunk


class Packed:
    """A body of one zlib or gzip stream."""

    def __init__(self, *, is_gzip: bool) -> None:
        self._is_gzip = is_gzip
        self._stream: zlib._Decompress | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all of it came, or nothing at all: a body that need not be there may be called packed."""
        return self._stream is None or self._stream.eof

    def unpack(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what a chunk holds, ``PIECE_SIZE`` bytes at most at a time. Raises ``BrokenBody``."""
        stream = self._stream = self._stream or self._begin(chunk)
        while chunk:
            if stream.eof:  # more than one stream, or what is none
                raise BrokenBody
            try:
                piece = stream.decompress(chunk, PIECE_SIZE)
            except zlib.error as error:
                raise BrokenBody from error
            chunk = stream.unconsumed_tail or stream.unused_data
            if piece:
                yield piece

    def _begin(self, chunk: bytes) -> zlib._Decompress:
        if self._is_gzip:
            return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        has_head = chunk[0] & 0x0F == 8  # some clients send "deflate" without that of zlib
        return zlib.decompressobj(wbits=zlib.MAX_WBITS if has_head else -zlib.MAX_WBITS)


def unpacker(coding: str) -> Plain | Packed:
    """Return what unpacks a body with this ``Content-Encoding``. Raises ``BadRequest`` for one that is not known."""
    match coding.strip().lower():
        case "" | "identity":
            return Plain()
        case "gzip" | "x-gzip":
            return Packed(is_gzip=True)
        case "deflate":
            return Packed(is_gzip=False)
    raise BadRequest(reason="The Content-Encoding of the body is not known here; gzip, deflate and identity are.")
