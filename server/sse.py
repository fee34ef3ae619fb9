"""Server-sent events as bytes (WHATWG HTML, 9.2), in the chunks of HTTP/1.1 (RFC 9112, 7.1) that carry them."""

from __future__ import annotations

from aiohttp import web

MEDIA_TYPE = "text/event-stream"
COMMENT = b":\n\n"
"""What keeps a connection open and tells the client nothing."""
DONE = b"data: [DONE]\n\n"
"""The end of a V1 stream."""


def event(data: bytes, id: int | None = None) -> bytes:
    """Return one event; ``data`` is JSON on one line. ``id``: what ``Last-Event-ID`` names to go on after it."""
    return b"data: %b\n\n" % data if id is None else b"id: %d\ndata: %b\n\n" % (id, data)


def frame(payload: bytes) -> bytes:
    """Return the payload as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def response(request_id: str, *, is_chunked: bool) -> web.StreamResponse:
    """Return a stream that is not sent yet; no cache or proxy may hold back or keep what goes over it."""
    made = web.StreamResponse(
        headers={
            "Content-Type": MEDIA_TYPE,
            "Cache-Control": "no-cache, no-transform",
            "X-Accel-Buffering": "no",
            "X-Request-Id": request_id,
        }
    )
    if is_chunked:
        made.enable_chunked_encoding()
    else:  # HTTP/1.0: the end of the connection is the end of the stream
        made.force_close()
    return made
