"""Where one request ends and the next begins: what two readers could take differently is refused, or is the last.

Proxies and servers that read a connection in different ways let one client's bytes become another's request. aiohttp
refuses most of what has two meanings; here is what it lets pass.
"""

from __future__ import annotations

from aiohttp.http import HttpVersion10, HttpVersion11, RawRequestMessage


def fault_of(message: RawRequestMessage) -> str | None:
    """Tell why the end of a request cannot be known, or the request not be answered as HTTP/1.1; None: it can."""
    version = message.version
    if version not in (HttpVersion11, HttpVersion10):
        return f"HTTP/{version.major}.{version.minor} is not spoken here, HTTP/1.1 is"
    coding = message.headers.get("Transfer-Encoding")
    if coding is None:
        return None
    if version == HttpVersion10:
        return "HTTP/1.0 has no Transfer-Encoding"
    return None if coding.lower() == "chunked" else "its Transfer-Encoding is another than chunked"


def is_last(message: RawRequestMessage) -> bool:
    """Tell whether a connection must end with the answer to a request.

    After a chunked body, aiohttp's parser gives the last of its trailers to the request that comes next, as a header;
    behind a request to speak another protocol, it throws away what came in the same piece.
    """
    return bool(message.chunked or message.upgrade)
